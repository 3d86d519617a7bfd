# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ssh_rescue_global_optspecs
    string join \n json policy= h/help V/version
end

function __fish_ssh_rescue_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ssh_rescue_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ssh_rescue_using_subcommand
    set -l cmd (__fish_ssh_rescue_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -s V -l version -d 'Print version'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "check" -d 'Say what a client sees, and why; changes nothing'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "explain" -d 'Draw the way of one client\'s packets: each hook, chain and rule that they meet, and where they end'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "repair" -d 'Let in again whom the policy names, by the least change, proven first'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "status" -d 'Say what the agent knows, without a look'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "hold" -d 'Repair nothing for a while, whatever happens'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "release" -d 'End a hold, and try again what was given up'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "agent" -d 'Watch over this host and repair it by itself; the service runs this'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "history" -d 'List what was repaired on this host'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "undo" -d 'Take a repair back'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "policy" -d 'Check, show or write the policy'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "drill" -d 'Lock scratch hosts out in many ways and rescue them; the live host is not touched'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "watch" -d 'Undo a repair whose process is gone before it is confirmed; `repair` itself starts it'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l ruleset -d 'Judge a saved ruleset instead of this host: what `iptables-save`, `ip6tables-save` or `nft list ruleset` printed, /etc/iptables/rules.v4, /etc/nftables.conf; `-` reads it from the standard input. It is loaded into a scratch namespace by its own tool and read back; this host\'s rules are not touched. Only the rules are judged, and needs root' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l backend -d 'The tool that loads it: iptables-nft, iptables-legacy, ip6tables-nft, ip6tables-legacy or nft [default: by its form; the report says which]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l ifindex -d 'The number of the interface [default: 2]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l interface -d 'The interface that clients come in by [for a ruleset: eth0; for this host: those that the policy names, or that have a default route]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l port -d 'The port that clients connect to [default: the policy\'s]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l to -d 'The local address that clients connect to; may be given again [for a ruleset: 192.0.2.10 and 2001:db8::10; for this host: its global addresses]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l root -d 'The files of a disk that is mounted at this folder, instead of this host: what its next boot would bring about. No program of it is run, and nothing of it leads out of the folder. Its policy is the one that lies on it' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l from -d 'The same, as an option' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l interface -d 'The interface that clients come in by [for a ruleset: eth0; for this host: those that the policy names, or that have a default route]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l to -d 'The local address that clients connect to; may be given again [for a ruleset: 192.0.2.10 and 2001:db8::10; for this host: its global addresses]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l port -d 'The port that clients connect to [default: the policy\'s]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l ruleset -d 'Judge a saved ruleset instead of this host: what `iptables-save`, `ip6tables-save` or `nft list ruleset` printed, /etc/iptables/rules.v4, /etc/nftables.conf; `-` reads it from the standard input. It is loaded into a scratch namespace by its own tool and read back; this host\'s rules are not touched. Only the rules are judged, and needs root' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l backend -d 'The tool that loads it: iptables-nft, iptables-legacy, ip6tables-nft, ip6tables-legacy or nft [default: by its form; the report says which]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l ifindex -d 'The number of the interface [default: 2]' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l svg -d 'Also write the picture to a file, for a ticket; a file that is there is not written over' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l force -d 'Write over the SVG file that is there'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand explain" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -l root -d 'The files of a disk that is mounted at this folder, instead of this host: what its next boot would bring about. No program of it is run, and nothing of it leads out of the folder. Its policy is the one that lies on it' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -l dry-run -d 'Rehearse the repair, and stop before anything of this host is changed'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -l alone -d 'Do it in this process, also where an agent answers'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand status" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand status" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand status" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand hold" -l reason -d 'Why, for those who see it' -r
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand hold" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand hold" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand hold" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand release" -l root -d 'The files of a disk that is mounted at this folder, instead of this host: what its next boot would bring about. No program of it is run, and nothing of it leads out of the folder. Its policy is the one that lies on it' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand release" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand release" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand release" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand agent" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand agent" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand agent" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand history" -l root -d 'The files of a disk that is mounted at this folder, instead of this host: what its next boot would bring about. No program of it is run, and nothing of it leads out of the folder. Its policy is the one that lies on it' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand history" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand history" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand history" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand undo" -l root -d 'The files of a disk that is mounted at this folder, instead of this host: what its next boot would bring about. No program of it is run, and nothing of it leads out of the folder. Its policy is the one that lies on it' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand undo" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand undo" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand undo" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and not __fish_seen_subcommand_from check show init" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and not __fish_seen_subcommand_from check show init" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and not __fish_seen_subcommand_from check show init" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and not __fish_seen_subcommand_from check show init" -f -a "check" -d 'Say whether the policy file is right, and every mistake in it'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and not __fish_seen_subcommand_from check show init" -f -a "show" -d 'Print the policy that is in force, every key of it'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and not __fish_seen_subcommand_from check show init" -f -a "init" -d 'Write a policy that asks for what is admitted now'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from check" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from check" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from show" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from show" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from init" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from init" -l print -d 'Print it, and write no file'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from init" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand policy; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand drill" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand drill" -l apart -d 'The part that runs apart from the live host; `drill` itself starts it'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand drill" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand drill" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand watch" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand watch" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand watch" -s h -l help -d 'Print help'
