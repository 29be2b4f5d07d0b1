"""The server of the game, for tests and for `rollcage run . --grants grants.toml`: `python3 server.py --port 48800`."""

import argparse
import json
import random
import socketserver


class Game(socketserver.StreamRequestHandler):
    """One connection: a number for each episode."""

    def handle(self) -> None:
        number = 0
        for line in self.rfile:
            question = json.loads(line)
            if "begin" in question:
                number = random.Random(question["begin"]).randrange(100)
                answer = {}
            else:
                guess = question["guess"]
                answer = {"answer": (guess > number) - (guess < number)}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=48800)
    with Server(("127.0.0.1", parser.parse_args().port), Game) as server:
        server.serve_forever()
