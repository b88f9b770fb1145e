"""The commands for models: compare, score, templates, identify, shared, benchmark, calibrate, export.

Each command calls the module that does the work; torch is imported only inside it, so that ``--help`` is quick.
"""

import argparse
import json
import sys
from pathlib import Path

from maskinv_lib.tools import model_options as given
from maskinv_lib.tools import options as shared
from maskinv_lib.tools.options import PEOPLE, Command

EXIT_CODES = "Exit code: 0 the same person, 1 different people, 2 an error or no decision."


def add_to(command: Command) -> None:
    """Add the commands of this module."""
    parser = command("compare", _compare, f"Decide whether two photographs show the same person. {EXIT_CODES}")
    given.model(parser)
    shared.paths(parser, a="first picture", b="second picture")
    given.threshold(parser)
    parser.add_argument("--json", action="store_true", help="print the decision as JSON")
    shared.landmarks(parser)
    parser.add_argument("--find-landmarks", action="store_true", help="detect the five points (extra 'landmarks')")

    parser = command("score", _score, "Score many pairs of photographs: their similarity and the decision, as CSV.")
    given.model(parser)
    text = "CSV with the columns first and second: two pictures per line; or a pairs.txt of LFW, with --folder"
    shared.paths(parser, pairs=text, target="CSV to write")
    parser.add_argument("--folder", type=Path, help="folder of the pictures (default: the folder of the list)")
    given.threshold(parser)
    shared.landmarks(parser)
    parser.add_argument("--find-landmarks", action="store_true", help="detect the five points (extra 'landmarks')")

    parser = command("templates", _templates, "Write the templates of a folder of people as a NumPy file (.npz).")
    given.model(parser)
    shared.paths(parser, folder=PEOPLE, target="file to write, ending in .npz")
    shared.pictures(parser)

    parser = command("identify", _identify, "Search photographs among the people of a gallery (1:N).")
    given.model(parser)
    shared.paths(parser, gallery=f"{PEOPLE}; or the file of the command templates")
    parser.add_argument("probes", type=Path, nargs="+", metavar="PROBE", help="pictures to search for")
    parser.add_argument("--most", type=shared.count, default=5, help="candidates to list for each picture (default: 5)")
    given.threshold(parser)
    parser.add_argument("--json", action="store_true", help="print the candidates as JSON")
    shared.pictures(parser)

    parser = command("shared", _shared, "List people who seem to be in both of two folders of people.")
    given.model(parser)
    shared.paths(parser, a=PEOPLE, b=f"another {PEOPLE}")
    given.threshold(parser, "lowest measured")
    shared.pictures(parser)

    parser = command("benchmark", _benchmark, "Measure any network on any verification set, without and with masks.")
    given.model(parser)
    given.verification_set(parser)
    parser.add_argument("--against", metavar="MODEL2", help="second model, to compare on the same pairs")
    parser.add_argument("--contract2", help="pixel scaling of the second model")
    parser.add_argument("--fmr", type=float, default=0.01, help="FMR of the threshold fixed on unmasked pairs (0.01)")
    parser.add_argument("--output", type=Path, help="folder to write (default: benchmark-<model>-<set>)")

    text = "Set a model's thresholds on your own pairs; --thresholds of other commands takes the file."
    parser = command("calibrate", _calibrate, text)
    given.model(parser)
    given.verification_set(parser)
    parser.add_argument("--fmr", type=float, action="append", help="false match rate; repeatable (0.01 and 0.001)")
    parser.add_argument("--condition", default="", help="one mask condition (default: all that the set has)")
    parser.add_argument("--output", type=Path, default=Path("thresholds.json"), help="file to write (thresholds.json)")

    parser = command(
        "export",
        _export,
        "Write a torch network (of a run, or weights) as ONNX: raw pixels in, embeddings out, any batch size.",
    )
    given.model(parser)
    shared.paths(parser, target="file to write, ending in .onnx")


def _points(options: argparse.Namespace, paths: list[Path]) -> dict:
    """Return picture -> five points, from the landmarks file and, for the other pictures, the detector."""
    from maskinv_lib.faces.photographs import landmarks_of

    return landmarks_of(paths, options.landmarks, options.find_landmarks)


def _compare(options: argparse.Namespace) -> int:
    recogniser = given.opened(options)
    threshold = given.chosen_threshold(options, recogniser)
    paths = [options.a, options.b]
    a, b = recogniser.templates(paths, _points(options, paths))
    decision = recogniser.decide(a, b, threshold)
    print(json.dumps(decision.as_json(), indent=1) if options.json else decision)
    return {"same": 0, "different": 1, "": 2}[decision.word]


def _score(options: argparse.Namespace) -> None:
    import torch

    from maskinv_lib.faces.folders import read_pictures
    from maskinv_lib.tools.identify import score_pairs
    from maskinv_lib.tools.pair_lists import read_pair_list
    from maskinv_lib.utils import files

    recogniser = given.opened(options)
    threshold = given.chosen_threshold(options, recogniser, optional=True)
    files.check_new_file(options.target, "the scores")
    pairs, names = read_pair_list(options.pairs, options.folder)
    pictures = {"landmarks": options.landmarks, "find_landmarks": options.find_landmarks, "content": True}
    images = read_pictures(options.folder or options.pairs.parent, names, **pictures)
    templates = recogniser.templates(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    table = score_pairs(templates, names, pairs, threshold)
    files.write_text(options.target, table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    counts = ", ".join(f"{(table.decision == word).sum():,} {word}" for word in ("same", "different"))
    used = f"{counts}. Used {threshold}" if threshold else "no threshold, so no decision"
    print(f"{options.target}: {len(table):,} pairs of {len(names):,} pictures; {used}.")


def _templates(options: argparse.Namespace) -> None:
    from maskinv_lib.faces.folders import read_folder
    from maskinv_lib.tools.identify import NPZ, gallery_of, write_templates
    from maskinv_lib.utils import files

    recogniser = given.opened(options)
    files.check_new_file(options.target, *NPZ)
    gallery = gallery_of(recogniser, read_folder(options.folder, content=True, **shared.reading(options)))
    write_templates(gallery, recogniser, options.target)
    size = gallery.templates.shape[1]
    print(f"{options.target}: {len(gallery.names):,} templates, {size}-D, of {len(gallery.people):,} people")


def _identify(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.identify import candidates, in_words, open_gallery

    recogniser = given.opened(options)
    threshold = given.chosen_threshold(options, recogniser, optional=True)
    gallery = open_gallery(options.gallery, recogniser, **shared.reading(options))
    templates = recogniser.templates(options.probes, _points(options, options.probes))
    table = candidates(templates, [str(path) for path in options.probes], gallery, threshold, options.most)
    if options.json:
        about = None if threshold is None else threshold.as_json()
        print(json.dumps({"threshold": about, "candidates": table.to_dict("records")}, indent=1))
        return
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print(in_words(gallery, threshold))


def _shared(options: argparse.Namespace) -> None:
    from maskinv_lib.faces.folders import read_folder
    from maskinv_lib.tools.shared_people import shared_people, summary

    recogniser = given.opened(options)
    threshold = given.chosen_threshold(options, recogniser, lowest=True)
    a, b = (read_folder(folder, content=True, **shared.reading(options)) for folder in (options.a, options.b))
    table = shared_people(a, b, recogniser, threshold)
    if len(table):
        print(table.to_string(index=False, float_format="{:.3f}".format))
    print(summary(table, a, b), f"Used {threshold}.")


def _said(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _benchmark(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.benchmark import benchmark, check_fmr, write_results
    from maskinv_lib.tools.benchmark_page import as_text, page
    from maskinv_lib.tools.recogniser import open_recogniser
    from maskinv_lib.utils import files

    check_fmr(options.fmr)
    if options.contract2 and not options.against:
        raise ValueError("--contract2 is the pixel scaling of the second model: give it with --against, or omit it.")
    models = [given.opened(options)]
    if options.against:
        models.append(given.announced(open_recogniser(options.against, contract=options.contract2)))
    on = given.opened_set(options)
    target = options.output or Path(f"benchmark-{models[0].name}-{on.name}".replace("/", "-").replace(":", "-"))
    files.check_new_folder(target)
    result = benchmark(models, on, fmr=options.fmr, show=_said)
    write_results(result, target, page(result))
    print(as_text(result))
    print(f"\nWritten to {target}: metrics.csv, benchmark.json, thresholds.json, benchmark.html (open it in a browser)")


def _calibrate(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.benchmark import calibrate
    from maskinv_lib.tools.thresholds import thresholds_json
    from maskinv_lib.utils import files

    files.check_new_file(options.output, "the thresholds (--output)")
    recogniser = given.opened(options)
    on = given.opened_set(options)
    rates = {"rates": tuple(options.fmr)} if options.fmr else {}
    thresholds = calibrate(recogniser, on, condition=options.condition, show=_said, **rates)
    files.write_json(options.output, thresholds_json(recogniser.name, recogniser.sha256, thresholds))
    print(*thresholds, sep="\n")
    print(f"Written to {options.output}: give it to compare, score, identify or shared as --thresholds.")


def _export(options: argparse.Namespace) -> None:
    from maskinv_lib.networks.onnx import CONTRACT, export_onnx

    recogniser = given.opened(options)
    facts = {name: recogniser.facts[name] for name in ("profile", "stage", "seed", "key") if name in recogniser.facts}
    path = export_onnx(recogniser.network, options.target, facts)
    print(f"{path}: {recogniser.network.name}, {recogniser.network.embedding_size}-D", *CONTRACT.values(), sep="\n")
