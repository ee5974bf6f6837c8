# SPDX-License-Identifier: MIT
"""A steady load on one address: clients that keep their connection and clients that open a new one for each request,
small bodies and bodies that no proxy buffers whole. Each client does what a careful one does: it sends a request again,
a few times, when no answer came or a 502, 503 or 504. What fails even then is lost."""
import http.client
import random
import struct
import threading
import time
import zlib

import container

RETRYABLE = {502, 503, 504}
TRIES = 5


def png(side, deflated):
    """The file of side x side RGB pixels, of their rows as a zlib stream."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", deflated) + chunk(b"IEND", b""))


def noise_png(side):
    """A picture that does not compress: about 3 * side^2 bytes."""
    return png(side, zlib.compress(b"".join(b"\0" + random.randbytes(3 * side) for _ in range(side)), 1))


class Outcome:
    """What became of one request: its kind of body, when it began, how long it took with all tries, and what each try
    that failed met."""

    def __init__(self, kind, began):
        self.kind, self.began, self.seconds, self.failures, self.status = kind, began, 0, [], None

    @property
    def lost(self):
        return self.status != 200


class Client(threading.Thread):
    """One client at its own pace until told to stop."""

    def __init__(self, load, number):
        super().__init__(daemon=True)
        self.load, self.random = load, random.Random(number)
        self.keeps = number % 2 == 0
        self.kind = "large" if number % 4 >= 2 else "small"
        self.connection = None

    def run(self):
        pause = self.load.clients / self.load.rate
        due = time.monotonic() + self.random.random() * pause
        while not self.load.ending.wait(max(0, due - time.monotonic())):
            self.load.done(self.request())
            due = max(due + pause, time.monotonic())  # a slow answer is not made up for by a burst

    def request(self):
        outcome = Outcome(self.kind, time.monotonic())
        for attempt in range(TRIES):
            failure, wait = self.attempt(outcome)
            if failure is None:
                break
            outcome.failures.append(failure)
            if outcome.status is not None and outcome.status not in RETRYABLE:
                break
            time.sleep(max(wait, 0.1 * 2 ** attempt))
        outcome.seconds = time.monotonic() - outcome.began
        return outcome

    def attempt(self, outcome):
        """None if it was answered with 200, else what it met; and how long to wait before the next."""
        outcome.status = None
        try:
            if not self.connection:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.load.port, timeout=90)
            headers, body = self.load.bodies[self.kind](self.random)
            self.connection.request("POST", "/classify", body, headers)
            answer = self.connection.getresponse()
            answer.read()
            outcome.status = answer.status
            if answer.will_close or not self.keeps:
                self.close()
            if answer.status == 200:
                return None, 0
            return str(answer.status), float(answer.headers.get("Retry-After", 0))
        except (OSError, http.client.HTTPException) as e:
            self.close()
            return type(e).__name__, 0

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


class Load:
    """clients that send rate requests a second in all, from start() to stop()."""

    def __init__(self, port, rate, clients):
        self.port, self.rate, self.clients = port, rate, clients
        self.ending, self.lock, self.outcomes = threading.Event(), threading.Lock(), []
        pizza, large = (container.SAMPLES / "pizza.png").read_bytes(), noise_png(400)
        self.bodies = {"small": self.maker(pizza), "large": self.maker(large)}
        self.threads = [Client(self, i) for i in range(clients)]

    @staticmethod
    def maker(picture):
        """Bodies with a few labels that are new, so that both towers have work."""
        def make(rnd):
            labels = ",".join(["pizza", "rocket", *(f"thing {rnd.randrange(1 << 30)}" for _ in range(4))])
            return container.form(("image", picture), ("labels", labels))
        return make

    def done(self, outcome):
        with self.lock:
            self.outcomes.append(outcome)

    def take(self):
        """What ended since the last call."""
        with self.lock:
            taken, self.outcomes = self.outcomes, []
        return taken

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(120)
        return self.take()


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
