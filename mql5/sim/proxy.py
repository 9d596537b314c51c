"""A faulty network in front of a bridge. It moves by the terminal's clock, so no test depends on the machine's pace."""
import json, socket, struct, threading

PATIENCE = 600      # seconds of real time, until something is stuck


class Fault:
    "No fault: every answer is delivered at once. Others override what they break."
    def __init__(self): self.answers = 0                # so far

    def request(self, network, line):
        "The line that the bridge gets; None: none, and there is no answer."
        return line

    def answer(self, network, line):
        "What is delivered, as (simulated milliseconds from now, bytes); bytes of None: the connection is cut."
        return [(0, line)]

    def connecting(self, network):
        "Whether a new connection is let through."
        return True


class Network:
    "Listens where the terminal connects (`port`), and where the simulator says how late it is (`control`)."
    def __init__(self, bridge_port, fault=None):
        self.bridge_port, self.fault = bridge_port, fault or Fault()
        self.listener, self.controller = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        self.port, self.control = (s.getsockname()[1] for s in (self.listener, self.controller))
        self.now = 0                                     # milliseconds of the terminal's clock
        self.connections = 0
        self.client = self.bridge = None
        self.requests, self.error = [], None             # what the terminal has said, as JSON
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self):
        self._hang_up()
        for s in (self.listener, self.controller): s.close()

    def __enter__(self): return self
    def __exit__(self, *e): self.close()

    def cut(self, reset=False):
        "Hang up on the terminal; with `reset` as a process that is killed."
        if self.client and reset: self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._hang_up()

    def _hang_up(self):
        for s in (self.client, self.bridge):
            if s: s.close()
        self.client = self.bridge = None

    def _serve(self):
        try:
            control, _ = self.controller.accept()
            with control, control.makefile("rw") as lines:
                for line in lines:
                    _, number, sent, now = line.split()
                    self.now = int(now)
                    print(*self._sync(int(number), int(sent)), file=lines, flush=True)
        except Exception as e: self.error = repr(e)      # the terminal ends when its control line is closed
        finally: self.close()

    def _sync(self, number, sent):
        "Bytes delivered on this connection, whether it is closed, and whether more is on the way at this moment."
        while self.connections < number: self._accept()
        if self.client is None: return (0, 1, 0) if number else (0, 0, 0)
        while self.client and self.received < sent: self._take()
        self._deliver()
        if self.client is None: return self.delivered, 1, 0
        return self.delivered, 0, int(bool(self.waiting) and self.waiting[0][0] <= self.now)

    def _accept(self):
        self._hang_up()
        self.client, _ = self.listener.accept()
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client.settimeout(PATIENCE)
        self.connections += 1
        self.received = self.delivered = 0
        self.rest, self.waiting = b"", []
        if not self.fault.connecting(self): return self.cut()
        if not self.bridge_port: return                  # the fault plays the bridge
        try: self.bridge = socket.create_connection(("127.0.0.1", self.bridge_port), timeout=PATIENCE)
        except OSError: return self.cut()
        self.lines = self.bridge.makefile("rb")

    def _take(self):
        data = self.client.recv(65536)
        if not data: return self._hang_up()              # the terminal closed it after what it has said
        self.received += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if self.client: self._ask(line)

    def _ask(self, line):
        self.requests.append(line)
        passed = self.fault.request(self, line)
        if passed is None or self.client is None: return
        try:
            self.bridge.sendall(passed + b"\n")
            if kind_of(passed) == "pong": return
            while kind_of(answer := self.lines.readline()) == "ping": self.waiting.append((self.now, answer))
        except OSError: answer = b""
        if not answer: return self.cut()
        self.fault.answers += 1
        self.waiting += [(self.now + later, data) for later, data in self.fault.answer(self, answer)]

    def _deliver(self):
        "What is due, in its order: at most twenty pieces, and no more than the terminal's buffer takes, at a time."
        sent, before = 0, self.delivered
        def due(): return self.client and self.waiting and self.waiting[0][0] <= self.now
        while due() and sent < 20 and self.delivered - before < 8_192:
            data = self.waiting.pop(0)[1]
            if data is None:
                self.cut(reset=True)
                return
            try: self.client.sendall(data)
            except OSError: return self.cut()
            self.delivered += len(data)
            sent += 1


def kind_of(line): return json_of(line).get("type")


def json_of(line):
    try: m = json.loads(line)
    except ValueError: return {}
    return m if isinstance(m, dict) else {}
