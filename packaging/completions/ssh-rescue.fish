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
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "repair" -d 'Let in again whom the policy names, by the least change, proven first'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "history" -d 'List what was repaired on this host'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "undo" -d 'Take a repair back'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "policy" -d 'Check, show or write the policy'
complete -c ssh-rescue -n "__fish_ssh_rescue_needs_command" -f -a "drill" -d 'Lock scratch hosts out in many ways and rescue them; the live host is not touched'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand check" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -l dry-run -d 'Rehearse the repair, and stop before anything of this host is changed'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand repair" -s h -l help -d 'Print help'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand history" -l policy -d 'The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]' -r -F
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand history" -l json -d 'Print JSON for machines'
complete -c ssh-rescue -n "__fish_ssh_rescue_using_subcommand history" -s h -l help -d 'Print help'
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
