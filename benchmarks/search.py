"""What the search is measured by.

python benchmarks/search.py grid --encoder runs/encoder-kowiki     trains 72 cells on Korean reviews, once: an hour
python benchmarks/search.py replay                                 searches replayed on their curves: minutes
"""

import argparse
import warnings
from pathlib import Path

import optuna
from search_grid import read_grid, take_reviews, train_grid, whole_grid
from search_replay import CONTENDERS, compare

ROOT = Path(__file__).parents[1]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    grid = commands.add_parser("grid", help="go on with the grid, and train the cells that it lacks")
    grid.add_argument("--reviews", type=Path, default=ROOT.parent / "shared/data/nsmc/ratings_train.txt")
    grid.add_argument("--train", type=int, default=2_000, help="reviews to train on")
    grid.add_argument("--valid", type=int, default=1_000, help="reviews to validate on")
    grid.add_argument("--at-once", type=int, default=2)
    grid.add_argument("--nice", type=int, default=0)
    replay = commands.add_parser("replay", help="replay searches on the cells that are there")
    replay.add_argument("--seeds", type=int, default=20)
    replay.add_argument("--share", type=float, default=0.25, help="of the grid's compute")
    replay.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    for command in (grid, replay):
        command.add_argument("--out", type=Path, default=Path("grid"), help="the folder of the grid")
        command.add_argument("--encoder", type=Path, help="a finished run; none: a tiny model, nothing frozen")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Train the grid, or replay searches on it."""
    options = parse(arguments)
    folder = options.out.resolve()
    encoder = options.encoder.resolve() if options.encoder else None
    if options.command == "grid":
        folder.mkdir(parents=True, exist_ok=True)
        take_reviews(options.reviews, folder, options.train, options.valid)
        train_grid(folder, encoder, options.at_once, options.nice)
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    contenders = {name: CONTENDERS[name] for name in options.only}
    space = read_grid(folder, encoder).space
    compare(space, whole_grid(folder, space), contenders, options.seeds, options.share)


if __name__ == "__main__":
    main()
