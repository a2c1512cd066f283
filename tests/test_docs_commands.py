"""The commands and the Python of the pages run, on small tables with the names that they use.

Trainings and scores are made small. What needs another machine, an account or a package that is not
installed is left out, by name.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from in_process import InProcess

import seqmel
from seqmel.config import Config
from seqmel.training import run
from seqmel.training.finetuning import fit_labels

pytestmark = pytest.mark.filterwarnings("ignore::seqmel.core.progress.EventsWarning")

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [
    page
    for page in [
        DOCS.parent / "README.md",
        DOCS / "index.md",
        DOCS / "get-started.md",
        *sorted(DOCS.glob("how-to/*.md")),
    ]
    if re.search(r"^(    seqmel |```python)", page.read_text(encoding="utf-8"), re.MULTILINE)
]
NOT_HERE = {
    "0.01,0.1,1": "needs hundreds of labels; tests/evaluation/test_curves.py has them",
    "16,64,full": "needs hundreds of labels; tests/evaluation/test_curves.py has them",
    "study/model": "is what tune writes",
    "MEDS_FOLDER": "tests/data and tests/training have such folders",
    "members.parquet": "needs clients of two kinds; tests/evaluation/test_audit.py has them",
    "s3://bucket/transactions/": "needs an account",
    "push": "needs an account",
    "pull": "needs an account",
    "tune": "tests/experiment/test_tuning.py runs it",
    "experiment": "tests/experiment runs it",
    "finish": "needs a run that was interrupted; tests/training/test_finish.py has one",
    "--engine": "Spark needs Java; tests/inference/spark runs it",
    "--devices": "needs several devices; tests/training/test_several_devices.py has them",
}
"""Word of a command -> why it is not run here."""
PACKAGES = {
    "faiss": "faiss",
    "neighbours": "faiss",
    "tensorboard": "tensorboardX",
    "export": "onnx",
}
"""Word of a command -> the package without which it is not run."""
CLIENTS = [2, 42, 12363, 12500, *range(100, 136)]


def events(seed: int, first: str, days: int) -> pd.DataFrame:
    """Return about 30 events of each client, with every column that a page names."""
    rng = np.random.default_rng(seed)
    count = 30 * len(CLIENTS)
    minutes = rng.integers(0, days * 1440, count)
    kinds = rng.choice(["purchase", "refund", "transfer"], count, p=[0.7, 0.2, 0.1])
    amounts = rng.gamma(2.0, 10.0, count).round(2)
    table = pd.DataFrame(
        {
            "client_id": np.repeat(CLIENTS, 30),
            "event_time": pd.Timestamp(first) + pd.to_timedelta(minutes, unit="min"),
            "stock_code": rng.choice([f"S{i}" for i in range(8)], count),
            "mcc": rng.choice(["food", "fuel", "travel"], count),
            "kind": kinds,
            "channel": rng.choice(["atm", "pos"], count),
            "amount": amounts,
            "is_purchase": kinds == "purchase",
            "is_cancel": kinds == "refund",
        }
    )
    return table.sort_values(["client_id", "event_time"], ignore_index=True)


def labels(seed: int) -> pd.DataFrame:
    """Return one row per client, with every target that a page names."""
    rng = np.random.default_rng(seed)
    count = len(CLIENTS)
    return pd.DataFrame(
        {
            "client_id": CLIENTS,
            "gender": rng.permutation(["F", "M"] * (count // 2)),
            "age": rng.permutation([30, 60] * (count // 2)),
            "region": rng.choice(["north", "south"], count),
            "branch": [f"B{i % 8}" for i in range(count)],
            "churned": rng.permutation([0, 1] * (count // 2)),
            "spent": rng.gamma(2.0, 100.0, count).round(2),
            "buys_in_holdout": rng.permutation([0, 1] * (count // 2)),
            "age_group": rng.permutation([0, 1] * (count // 2)),
        }
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables that pages name."""
    folder = tmp_path_factory.mktemp("files")
    year, people = events(1, "2023-03-01", 365), labels(2)
    events(6, "2010-12-01", 283).to_parquet(folder / "retail.parquet")
    for name in ("events", "transactions", "all-until-today"):
        year.to_parquet(folder / f"{name}.parquet")
    later = events(3, "2024-03-01", 1)
    later.to_parquet(folder / "of-the-next-day.parquet")
    events(4, "2024-02-01", 28).to_parquet(folder / "february-transactions.parquet")
    fresh = events(5, "2023-03-01", 365)
    fresh.assign(client_id=fresh["client_id"] + 20000).to_parquet(folder / "new-clients.parquet")
    people.to_parquet(folder / "clients.parquet")
    at = pd.Timestamp("2023-09-01") + pd.to_timedelta(np.arange(len(people)), unit="D")
    loans = people[["client_id"]].assign(default=people["churned"])
    days = np.arange(len(people)) * 3 % 100
    ends = {"churn": days, "churn_observed": days % 2 == 0}
    loans.assign(**ends).to_parquet(folder / "labels.parquet")
    people[["client_id", "age", "region"]].to_parquet(folder / "features.parquet")
    known = people[["client_id", "age"]].assign(event_time=pd.Timestamp("2023-03-01"))
    known.to_parquet(folder / "facts.parquet")
    loans.assign(event_time=at, applied_at=at, application_date=at).to_parquet(
        folder / "applications.parquet"
    )
    people[["client_id"]].assign(event_time=pd.Timestamp("2024-02-01")).to_parquet(
        folder / "today.parquet"
    )
    (folder / "transactions").mkdir()
    year.to_parquet(folder / "transactions" / "part.parquet")
    (folder / "transfers").mkdir()
    year[["client_id", "event_time", "amount"]].to_parquet(folder / "transfers" / "part.parquet")
    year.drop(columns=["kind"]).to_parquet(folder / "cards.parquet")
    year[["client_id", "event_time", "kind"]].to_csv(folder / "clicks.csv", index=False)
    shop = year[["client_id", "event_time", "stock_code"]]
    shop.assign(quantity=year["amount"].round(), unit_price=year["amount"] / 3).to_parquet(
        folder / "purchases.parquet"
    )
    shop.rename(columns={"client_id": "customer", "event_time": "cancelled_at"}).assign(
        amount=-year["amount"]
    ).to_csv(folder / "cancellations.csv", index=False)
    last = year.groupby("client_id", as_index=False)["event_time"].last()
    last.assign(fraud=people["churned"]).to_parquet(folder / "fraud.parquet")
    bank = year[["client_id", "event_time", "amount"]].assign(
        event_time=year["event_time"].dt.strftime("%d.%m.%Y %H:%M"),
        amount=year["amount"].map("{:.2f}".format).str.replace(".", ","),
    )
    bank.to_csv(folder / "bank.csv", index=False, sep=";")
    year.to_parquet(folder / "ptls.parquet")
    names = {"client_id": "cl_id", "event_time": "TRDATETIME"}
    year.rename(columns=names).assign(PERIOD=1).to_parquet(folder / "of-the-bank.parquet")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _small_trainings() -> Iterator[None]:
    """Let every training be one epoch of a narrow network."""
    train = run.train

    def small(tables: Any, output: Path, *, config: Config | None = None, **rest: Any) -> Path:
        options = (config or Config()).to_dict()
        options["training"]["epochs"] = min(options["training"]["epochs"] or 1, 1)
        options["event_encoder"]["hidden_size"] = 8
        if "hidden_size" in options["encoder"]:
            options["encoder"]["hidden_size"] = 8
        return train(tables, output, config=Config.from_dict(options), **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "train", small)
        patch.setattr(fit_labels, "_MAX_EPOCHS", 1)
        yield


@pytest.fixture(scope="module")
def made(files: Path, _small_trainings: None) -> Path:
    """The same, and what earlier pages make of them."""
    year = files / "transactions.parquet"
    people = pd.read_parquet(files / "clients.parquet")
    run.train(year, files / "model")
    model = seqmel.load(files / "model")
    model.embed(year, files / "embeddings.parquet")
    for name in ("e", "vectors", "january", "february"):
        shutil.copy(files / "embeddings.parquet", files / f"{name}.parquet")
    for name in ("a", "b"):
        shutil.copytree(files / "model", files / "models" / name)
    for name, target in {"gender-model": "gender", "buys": "buys_in_holdout"}.items():
        tuned = model.finetune(year, people[["client_id", target]], target=target)
        tuned.save(files / name)
    seqmel.load(files / "gender-model").predict(year, files / "scores.parquet")
    ends = pd.read_parquet(files / "labels.parquet").drop(columns="default")
    times = model.finetune(year, ends, target="churn", task="survival")
    times.predict(year, files / "times.parquet")
    scores = model.evaluate(people, target="gender", events=year, folds=2, trees=5)
    (files / "scores.json").write_text(json.dumps([scores.to_json()]), encoding="utf-8")
    return files


def shown(page: Path) -> list[tuple[str, str]]:
    """Return ("seqmel", command) and ("python", code) of a page, in order of appearance."""
    text = page.read_text(encoding="utf-8")
    command = r"^    seqmel (?P<command>(?:[^\n]*\\\n)*[^\n]*)$"
    code = r"^```python\n(?P<code>.*?)^```"
    inline = (
        r"`seqmel (?P<inline>(?:finetune|predict)\s[^`]*)`" if page.name == "README.md" else "a^"
    )
    found = []
    for match in re.finditer(f"{command}|{code}|{inline}", text, re.MULTILINE | re.DOTALL):
        if match["code"] is not None:
            found.append(("python", match["code"]))
        else:
            line = match["command"] or match["inline"]
            found.append(("seqmel", line.replace("\\\n", " ").replace("\n", " ")))
    return found


def runs_here(command: str) -> bool:
    """Whether the command needs nothing that is missing here."""
    missing = [part for part, name in PACKAGES.items() if importlib.util.find_spec(name) is None]
    return not {*NOT_HERE, *missing} & set(command.split())


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_runs_as_printed(
    page: Path,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_process: InProcess,
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    for name, written in re.findall(r"```\w+\n# (\S+\.(?:yaml|py))\n(.*?)```", text, re.DOTALL):
        Path(name).write_text(written, encoding="utf-8")
        if name == "bank.yaml":
            shutil.move("of-the-bank.parquet", "transactions.parquet")
    before = PAGES[: PAGES.index(page)]
    elsewhere = {text for earlier in before for _, text in shown(earlier)}
    names: dict[str, object] = {}
    for language, text in shown(page):
        if text in elsewhere:
            continue
        if text.startswith("# own.py"):
            continue  # a file, which a command imports
        if language == "python":
            for output in re.findall(r"\.save\(\"([^\"]+)\"\)", text):
                clear(output)
            exec(compile(text, page.name, "exec"), names)
        elif runs_here(text):
            words = shlex.split(text)
            clear(words[words.index("-o") + 1] if "-o" in words else "none")
            if words[0] in ("evaluate", "audit"):
                words += ["--folds", "2", "--trees", "2"]
            done = in_process.seqmel(*words)
            assert done.returncode == 0, f"seqmel {text}\n{done.stderr}"


def clear(output: str) -> None:
    """Remove what another page made under the name of an output."""
    if Path(output).is_dir():
        shutil.rmtree(output)
    Path(output).unlink(missing_ok=True)
