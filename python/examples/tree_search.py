"""Monte Carlo tree search over live environments: every node *is* an env, a copy of another one an action later.

Crosses FrozenLake's 8x8 lake, which a random policy practically never does::

    python examples/tree_search.py
"""

from __future__ import annotations

import math

import numpy as np

import rollcage

SIMULATIONS = 1000  # before each step of the env
HORIZON = 50  # steps that a simulation looks ahead beyond what is known, by random actions
DISCOUNT = 0.97  # what a reward is worth a step later
CURIOSITY = 0.3  # UCB1's constant
ACTIONS = 4


class Node:
    """A state of the env, alive in a process of its own, and what is known of its actions."""

    def __init__(self, env: rollcage.VectorEnv) -> None:
        self.env = env
        self.visits = [0] * ACTIONS
        self.values = [0.0] * ACTIONS
        #: Where each action leads: the state, its reward, whether the episode is over.
        self.leads: list[tuple[int, float, bool] | None] = [None] * ACTIONS

    def bound(self, action: int) -> float:
        visits = self.visits[action]
        if not visits:
            return math.inf
        return self.values[action] / visits + CURIOSITY * math.sqrt(math.log(sum(self.visits)) / visits)


def simulate(tree: dict[int, Node], state: int, random: np.random.Generator) -> None:
    """Along what is known, one action more, a random future; then every action on the way learns of it."""
    way, worth = [], 0.0
    while len(way) < HORIZON and state in tree:
        node = tree[state]
        action = max(range(ACTIONS), key=node.bound)
        known = leads = node.leads[action]
        if leads is None:
            copy = node.env.branch(0, 1)  # this node's env stays where it is
            states, rewards, terminated, truncated = copy.step_many(0, [action])
            leads = node.leads[action] = (int(states[0]), float(rewards[0]), terminated or truncated)
            if leads[2] or leads[0] in tree:
                copy.close()
            else:
                worth = look_ahead(copy, random)
                tree[leads[0]] = Node(copy)
        way.append((node, action, leads[1]))
        if leads[2] or known is None:
            break
        state = leads[0]
    for node, action, reward in reversed(way):
        worth = reward + DISCOUNT * worth
        node.visits[action] += 1
        node.values[action] += worth


def look_ahead(env: rollcage.VectorEnv, random: np.random.Generator) -> float:
    """What a random policy gets from here: in a copy, in one turn of its worker."""
    with env.branch(0, 1) as future:
        _, rewards, _, _ = future.step_many(0, random.integers(ACTIONS, size=HORIZON))
    return float(rewards @ DISCOUNT ** np.arange(len(rewards)))


def main() -> None:
    random = np.random.default_rng(7)
    env = rollcage.make_vec("frozenlake", config={"map_name": "8x8", "is_slippery": False}, seed=7)
    luck = 0.0
    for _ in range(200):
        env.reset()
        luck += env.step_many(0, random.integers(ACTIONS, size=200))[1].sum()
    state = int(env.reset()[0][0])
    tree, steps, reward, ended = {state: Node(env.branch(0, 1))}, 0, 0.0, False
    while not ended:
        for _ in range(SIMULATIONS):
            simulate(tree, state, random)
        states, rewards, terminations, truncations, _ = env.step([int(np.argmax(tree[state].visits))])
        steps, state, reward = steps + 1, int(states[0]), float(rewards[0])
        ended = bool(terminations[0] or truncations[0])
    print(
        f"random: {luck:.0f} of 200 crossings; tree search: {reward:.0f} of 1, in {steps} steps, over {len(tree)} live envs"
    )
    for node in tree.values():
        node.env.close()


if __name__ == "__main__":
    main()
