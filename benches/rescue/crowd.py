# A crowd at the agent's socket: CROWD connections of four users that ask for the status again and again, and root, who
# asks for repairs meanwhile. Prints two lines: microseconds of each status, and of each repair's first stage.
import json, os, selectors, socket, sys, time

PATH = "/run/ssh-rescue/io.ssh-rescue.Agent"
USERS, SECONDS, REPAIRS = 4, 6, 20
crowd = int(sys.argv[1]) // USERS


def connect():
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(PATH)
    return stream


def ask(stream, method, **more):
    stream.sendall(json.dumps({"method": "io.ssh-rescue.Agent." + method, **more}).encode() + b"\0")
    return time.monotonic()


def user(number, out):
    os.setgid(60000 + number)
    os.setuid(60000 + number)
    wait, begun, took = selectors.DefaultSelector(), {}, []
    for stream in [connect() for _ in range(crowd)]:
        stream.setblocking(False)
        wait.register(stream, selectors.EVENT_READ)
        begun[stream] = ask(stream, "Status")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for key, _ in wait.select(timeout=1):
            answer = key.fileobj.recv(1 << 16)
            if not answer:
                raise SystemExit("closed")
            if answer.endswith(b"\0"):
                took.append(time.monotonic() - begun[key.fileobj])
                begun[key.fileobj] = ask(key.fileobj, "Status")
    # Who was never answered waited longer than all others.
    took += [time.monotonic() - at for at in begun.values()]
    out.write("".join(f"{int(t * 1e6)} " for t in took))
    out.close()


def repairs():
    took = []
    for _ in range(REPAIRS):
        stream = connect()
        at = ask(stream, "Repair", more=True, parameters={"dry_run": True})
        first = stream.recv(1 << 16)
        assert b'"stage"' in first, first
        took.append(time.monotonic() - at)
        stream.close()
        time.sleep(0.2)
    return took


pipes = []
for number in range(USERS):
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        user(number, os.fdopen(write, "w"))
        os._exit(0)
    os.close(write)
    pipes.append(os.fdopen(read))
time.sleep(1)
started = repairs()
print(" ".join(pipe.read() for pipe in pipes))
print(" ".join(str(int(t * 1e6)) for t in started))
