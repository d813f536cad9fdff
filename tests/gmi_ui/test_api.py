"""The API by the ways in which programs use it: gradio's client, plain HTTP, tools for MCP."""

import http.client
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import engine
from engine.pictures import png_files
from engine.settings import GENERATE_PRESETS, PRESETS, FlowSettings, GenerateSettings
from gmi_ui.api.calls import CALLS, GeneratePreset, Preset
from gmi_ui.api.endpoints import AT_ONCE, NAMES, WAITING, about
from gmi_ui.api.tools import MOST_SHOWN, parts_of
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.listening import OptionsError
from gmi_ui.models.models import Loaders, Models
from gmi_ui.runs.run import OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.studio import LaunchOptions, Server, check_mcp, serve
from tests.browser.helpers import free_port
from tests.engine.tiny import write_translator
from tests.gmi_ui.tiny import (
    GENERATOR,
    PROMPT_MODEL,
    STYLE_SIDE,
    TinyClasses,
    TinyPromptModel,
    one_of,
    only,
    other_row,
    style_generator,
    tiny_models,
    tiny_row,
)
from tests.gmi_ui.waiting import awaited, wait_for_end, wait_until

API = "/gradio_api"
JSON = {"Content-Type": "application/json"}
STEP_SECONDS = 0.004
LOGIN = ("ann", "secret")
TRANSLATOR = "hairstyles"


def models_for_all(folder: Path) -> Models:
    """A StyleGAN2 whose steps take a while, a model with classes, a StarGAN v2."""
    classes = TinyClasses()
    generators: dict[str, Any] = {
        GENERATOR: style_generator(delay=STEP_SECONDS),
        classes.name: classes,
        TRANSLATOR: engine.load_generator(str(write_translator(folder / TRANSLATOR))),
    }
    prompt_model: Any = TinyPromptModel()
    rows = [
        tiny_row(),
        replace(other_row(classes), prompt_model=PROMPT_MODEL),
        replace(tiny_row(), name=TRANSLATOR, family="stargan2", classes=("long", "short"), examples=()),
        replace(tiny_row(), name=PROMPT_MODEL, kind="prompt", family="open_clip"),
    ]
    return Models(Loaders(one_of(generators), only(PROMPT_MODEL, prompt_model), lambda: rows))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the studio keeps finished pictures."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.tasks.inversion.STEPS_WITHOUT", 4)
        models = models_for_all(tmp_path_factory.mktemp("models"))
        server = serve(models, LaunchOptions(port=free_port(), browser=False, outputs=kept))
        yield server
        server.close()


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    server = serve(tiny_models(), LaunchOptions(port=free_port(), browser=False, auth=LOGIN))
    yield server
    server.close()


@pytest.fixture(scope="module")
def client(studio: Server, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return client_of(studio, tmp_path_factory.mktemp("fetched"))


def client_of(server: Server, folder: Path, **options: Any) -> Client:
    return Client(server.address, verbose=False, download_files=folder, analytics_enabled=False, **options)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return painted(tmp_path / "mine.png")


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """White in the middle."""
    levels = np.zeros((STYLE_SIDE, STYLE_SIDE), np.uint8)
    levels[4:12, 4:12] = 255
    Image.fromarray(levels).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def painted(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (STYLE_SIDE, STYLE_SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def post(server: Server, path: str, value: Any, **headers: str) -> tuple[int, Any]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    status, content = ask(server, "POST", path, body, {**JSON, **headers})
    return status, json.loads(content)


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = connection_to(server)
    try:
        connection.request(method, API + path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def connection_to(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", int(server.address.rstrip("/").rpartition(":")[2]), timeout=30)


def events_of(server: Server, path: str) -> list[tuple[str, Any]]:
    """What a call led to, from the first to the last."""
    status, content = ask(server, "GET", path)
    assert status == 200
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in content.decode().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks if block]


def running(server: Server) -> Run:
    """The run that is being carried out, once there is one that moves."""
    queue = server.services.queue
    wait_until(lambda: queue.current is not None and queue.current.moment.phase is Phase.RUNNING)
    assert isinstance(queue.current, Run)
    return queue.current


# ---- by gradio's client ------------------------------------------------------------------------------------


def test_steps_are_told_and_pictures_are_those_of_the_page(studio: Server, client: Client, tmp_path: Path) -> None:
    """Byte for byte what "Save PNG" gives for the same settings."""
    job = client.submit(prompt="blue", n=3, steps=60, seed=5, api_name="/generate")
    told = list(job)
    files, report = told[-1]
    steps = [one["step"] for _, one in told if one["phase"] == "running"]
    assert steps == sorted(steps) and len(set(steps)) >= 4
    assert all(one["total"] == 60 for _, one in told) and all(not early for early, _ in told[:-1])
    moving = next(one for _, one in told if one["step"] == steps[-1])
    assert len(moving["scores"][OURS]["text_scores"]) == 3 and moving["scores"][OURS]["diversity"] > 0
    assert (report["phase"], report["step"], report["task"]) == ("done", 60, "generate")

    settings = GenerateSettings.from_dict(report["settings"])
    assert (settings.prompt, settings.n, settings.seed, settings.flow.steps) == ("blue", 3, 5, 60)
    run = Run(settings, GENERATE)
    studio.services.queue.submit(run)
    wait_for_end(run)
    for index, path in enumerate(files):
        saved = studio.services.pictures.save_one(run, OURS, index)
        assert Path(path).name == saved.name == report["sides"][OURS]["pictures"][index]["file"]
        assert Path(path).read_bytes() == saved.read_bytes()
        assert png_files.read_metadata(Path(path))["settings"] == report["settings"]


def test_pictures_come_meanwhile_where_they_are_asked_for(client: Client) -> None:
    job = client.submit(prompt="blue", n=2, steps=30, baseline=True, pictures_every=10, api_name="/generate")
    told = list(job)
    early = [files for files, report in told if report["phase"] == "running" and files]
    assert 1 <= len(early) <= 3 and all(len(files) == 4 for files in early)
    files, report = told[-1]
    assert [Path(path).stem.rpartition("_")[2] for path in files] == ["step-30", "step-30", "baseline", "baseline"]
    assert list(report["sides"]) == [OURS, "baseline"] == list(report["scores"])


def test_a_report_s_settings_make_the_pictures_again(client: Client) -> None:
    first, report = client.predict(
        prompt="red", n=2, steps=4, model="fashion", more={"classes": ["coat"]}, api_name="/generate"
    )
    again, _ = client.predict(prompt="", more=report["settings"], api_name="/generate")
    assert report["settings"]["seed"] >= 0 and report["models"].keys() == {"fashion", PROMPT_MODEL}
    assert [Path(path).read_bytes() for path in first] == [Path(path).read_bytes() for path in again]


def test_pictures_to_be_like_and_unlike(client: Client, tmp_path: Path) -> None:
    like = [handle_file(painted(tmp_path / f"{seed}.png", seed)) for seed in range(3)]
    _, report = client.predict(prompt="red", n=2, steps=2, towards=like, unlike=like[:1], api_name="/generate")
    assert {len(report["settings"][name]) for name in ("towards", "unlike")} == {64}
    assert report["settings"]["towards"] != report["settings"]["unlike"]


def test_a_picture_is_edited_repainted_and_translated(client: Client, picture: Path, mask: Path) -> None:
    files, report = client.predict(
        picture=handle_file(picture), prompt="red", neutral="blue", n=2, steps=2, strength=0.5, api_name="/edit"
    )
    assert len(files) == 2 and report["settings"]["neutral"] == "blue" and report["settings"]["strength"] == 0.5
    assert {"start"} <= png_files.read_metadata(Path(files[0]))["extra"].keys()

    files, report = client.predict(
        picture=handle_file(picture), mask=handle_file(mask), n=2, steps=2, feather=0, api_name="/inpaint"
    )
    before, covered = np.asarray(Image.open(picture)), np.asarray(Image.open(mask)) > 0
    for path in files:
        after = np.asarray(Image.open(path))
        assert (after[~covered] == before[~covered]).all() and (after[covered] != before[covered]).any()

    style = [handle_file(painted(picture.parent / "style.png", 7))]
    files, report = client.predict(
        picture=handle_file(files[0]), domain="short", references=style, n=2, steps=2, api_name="/translate"
    )
    assert len(files) == 2 and report["settings"]["domain"] == "short" and len(report["settings"]["references"]) == 64
    assert png_files.parent_of(png_files.read_metadata(Path(files[0]))["extra"])  # the repainted picture


def test_runs_are_kept_but_shown_in_no_tab(studio: Server, client: Client, kept: Path) -> None:
    gate: Any = next(one.kwargs["gate"] for one in studio.page.app.user_middleware if "gate" in one.kwargs)
    token = gate.tokens.issue()
    client.predict(prompt="green kept", n=2, steps=2, api_name="/generate")
    wait_until(lambda: len(list(kept.rglob("green-kept*.png"))) == 2)
    assert all(studio.services.sessions.get(token, task).run is None for task in NAMES)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("generate", {"prompt": "a", "n": 65}, "n: 65 is outside 1 to 64."),
    ("generate", {"prompt": "a", "n": "many"}, "n: expected a whole number"),
    ("generate", {"prompt": 5}, "prompt: expected text"),
    ("generate", {"prompt": "a" * 6_000}, "shorten it to 5,000"),
    ("generate", {"prompt": "a", "model": "avatrs"}, "avatars"),
    ("generate", {"prompt": "a", "model": ["avatars"]}, "model: expected the name"),
    ("generate", {"prompt": "a", "model": TRANSLATOR}, "cannot generate pictures"),
    ("generate", {"prompt": "a", "prompt_model": "clip"}, "There is no model 'clip'"),
    ("generate", {"prompt": "a", "preset": "fast"}, "choose one of robust, paper"),
    ("generate", {"prompt": "a", "steps": 0}, "steps: 0 is outside 1 to 1000."),
    ("generate", {"prompt": "a", "pictures_every": -1}, "pictures_every"),
    ("generate", {"prompt": "a", "more": [1]}, "more: expected an object"),
    ("generate", {"prompt": "a", "more": {"flow": {"stops": 1}}}, "'stops' is not a setting"),
    ("generate", {"prompt": "a", "model": "fashion", "more": {"classes": ["cow"]}}, "cow"),
    ("generate", {"prompt": "a", "unlike": "/etc/hostname"}, "unlike: there is no such uploaded file"),
    ("edit", {"picture": "/etc/hostname", "prompt": "a"}, "picture: there is no such uploaded file"),
    ("edit", {"picture": {"path": "/etc/hostname"}, "prompt": "a"}, "picture: there is no such uploaded file"),
    ("edit", {"picture": "\0", "prompt": "a"}, "picture: there is no such uploaded file"),
    ("edit", {"picture": "http://127.0.0.1:1/a.png", "prompt": "a"}, "nothing is fetched from addresses"),
    ("edit", {"picture": None, "prompt": "a"}, "picture: expected an uploaded file"),
    ("edit", {"picture": "", "prompt": "a", "model": "fashion"}, "cannot edit pictures; models of stylegan2 can"),
    ("edit", {"picture": "", "prompt": " "}, "prompt: is empty"),
    ("translate", {"picture": "", "style_scale": 9}, "style_scale: 9 is outside 0.05 to 4."),
]


@pytest.mark.parametrize(("endpoint", "given", "words"), BAD, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_said_in_a_sentence(
    studio: Server, client: Client, endpoint: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(**given, api_name=f"/{endpoint}")
    assert words in str(caught.value)
    assert studio.services.queue.current is None


def test_unreadable_pictures_and_empty_masks_are_said(client: Client, picture: Path, tmp_path: Path) -> None:
    broken, black = tmp_path / "broken.png", tmp_path / "black.png"
    broken.write_bytes(b"\x89PNG and no more")
    Image.new("L", (STYLE_SIDE, STYLE_SIDE)).save(black)
    with pytest.raises(AppError, match="not a readable picture"):
        client.predict(picture=handle_file(broken), prompt="a", api_name="/edit")
    with pytest.raises(AppError, match="mask"):
        client.predict(picture=handle_file(picture), mask=handle_file(black), api_name="/inpaint")


def test_cancelling_ends_the_one_run_that_is_meant(studio: Server, client: Client) -> None:
    """Of three calls of one client the first while it runs, the second while it waits; the third is carried out."""
    first = client.submit(prompt="long", n=2, steps=900, api_name="/generate")
    run = running(studio)
    second = client.submit(prompt="waits", n=2, steps=900, api_name="/generate")
    wait_until(lambda: [told["waiting_for"] for _, told in second.outputs()[-1:]] == [1])
    third = client.submit(prompt="goes on", n=2, steps=2, api_name="/generate")
    wait_until(third.outputs)
    assert second.cancel() and first.cancel()
    wait_for_end(run)
    assert run.moment.phase is Phase.STOPPED and 0 < run.moment.step < 900
    _, report = third.result(timeout=30)
    assert (report["phase"], report["prompt"]) == ("done", "goes on")
    assert studio.services.queue.current is None and not studio.services.queue.is_wanted


def test_a_page_waits_for_few_calls(studio: Server, client: Client) -> None:
    """However many there are, a run of the page stands behind those alone that are in the queue already."""
    queue = studio.services.queue
    jobs = [client.submit(prompt="long", n=2, steps=900, api_name="/generate") for _ in range(AT_ONCE + 2)]
    wait_until(lambda: sum(bool(job.outputs()) for job in jobs) == AT_ONCE)
    run = Run(GenerateSettings("mine", n=2, flow=FlowSettings(steps=2)), GENERATE)
    queue.submit(run)
    assert queue.place(run) == AT_ONCE
    for job in reversed(jobs):  # those that have not begun first
        job.cancel()
    wait_for_end(run)
    assert run.moment.phase is Phase.DONE
    wait_until(lambda: queue.current is None and not queue.is_wanted)


# ---- by plain HTTP -----------------------------------------------------------------------------------------


def test_a_call_by_http(studio: Server) -> None:
    """With named parameters or in order; what has a default may be left out. The pictures are fetched by address."""
    for path, value in (
        ("/call/v2/generate", {"prompt": "blue", "n": 2, "steps": 3}),
        ("/call/generate", {"data": ["blue", GENERATOR, 2, 3]}),
    ):
        status, answer = post(studio, path, value)
        assert status == 200
        *before, (event, (files, report)) = events_of(studio, f"{path}/{answer['event_id']}")
        assert event == "complete" and report["settings"]["n"] == len(files) == 2
        assert {kind for kind, _ in before} <= {"generating", "heartbeat"}
        status, png = ask(studio, "GET", files[0]["url"].partition(API)[2])
        assert status == 200 and png_files.read_metadata(png)["settings"] == report["settings"]


def test_what_is_wrong_with_a_call_by_http_is_said(studio: Server) -> None:
    for path, value, words in (
        ("/call/v2/generate", {"prompts": "a"}, "'prompt'"),
        ("/call/v2/generate", {"prompt": "a", "size": 3}, "'size'"),
        ("/call/generate", {"data": []}, "'prompt'"),
        ("/call/generate", {"data": [None] * 40}, "too many positional arguments"),
        ("/call/generate", {}, '{"data": [...]}'),
    ):
        status, answer = post(studio, path, value)
        assert status == 422 and words in answer["detail"], (path, value, answer)
    assert post(studio, "/call/v2/generate", b"{")[0] == 400
    _, answer = post(studio, "/call/v2/generate", {"prompt": "a", "n": 65})
    (event, told) = events_of(studio, f"/call/v2/generate/{answer['event_id']}")[-1]
    assert event == "error" and told["error"] == "n: 65 is outside 1 to 64."


def test_cancelling_by_http(studio: Server) -> None:
    _, answer = post(studio, "/call/v2/generate", {"prompt": "long", "n": 2, "steps": 900})
    run, call = running(studio), answer["event_id"]
    assert post(studio, "/cancel", {"event_id": "other", "session_hash": call, "fn_index": 0})[0] == 200
    assert not run.is_over
    assert post(studio, "/cancel", {"event_id": call, "session_hash": call, "fn_index": 0})[0] == 200
    wait_for_end(run)
    assert run.moment.phase is Phase.STOPPED


def test_a_run_ends_when_nobody_listens_any_more(studio: Server) -> None:
    _, answer = post(studio, "/call/v2/generate", {"prompt": "long", "n": 2, "steps": 900})
    connection = connection_to(studio)
    connection.request("GET", f"{API}/call/v2/generate/{answer['event_id']}")
    stream = connection.getresponse()
    assert stream.readline()
    run = running(studio)
    stream.close()
    connection.close()
    wait_for_end(run)
    assert run.moment.phase is Phase.STOPPED and run.moment.step < 900


# ---- who may ---------------------------------------------------------------------------------------------------


def test_pages_of_another_place_may_not_call(studio: Server) -> None:
    for headers in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.test"}):
        for path in ("/call/v2/generate", "/call/generate", "/call/v2/edit"):
            assert post(studio, path, {"prompt": "a"}, **headers)[0] in (403, 421)
    assert post(studio, "/call/v2/generate", {"prompt": "a"}, **{"Content-Type": "text/plain"})[0] == 415


def test_nothing_but_the_endpoints_can_be_called(studio: Server) -> None:
    """The page's own events stay its own, and have no names here."""
    names = {one["api_name"] for one in studio.page.config["dependencies"]} - {*NAMES}
    for name in (*names, "v2", "generate/", "../generate", ""):
        assert post(studio, f"/call/{name}", {"data": []})[0] in (404, 405), name
    assert post(studio, "/run/generate", {"data": ["a"]})[0] == 404
    assert post(studio, "/mcp", {})[0] == 404


def test_files_of_elsewhere_are_not_fetched(studio: Server) -> None:
    there = {"path": "HTTP://127.0.0.1:1/a.png", "meta": {"_type": "gradio.FileData"}}
    status, answer = post(studio, "/call/v2/generate", {"prompt": "a", "towards": [there]})
    assert status == 403 and "fetches nothing" in answer["detail"]
    body = {"data": [[{"deep": there}]], "fn_index": 0, "session_hash": "abc"}
    assert post(studio, "/queue/join", body)[0] == post(studio, "/run/predict", body)[0] == 403


def test_the_password_is_asked_of_programs_too(locked: Server, tmp_path: Path) -> None:
    assert post(locked, "/call/v2/generate", {"prompt": "a"})[0] == 401
    assert ask(locked, "GET", "/call/v2/generate/abc")[0] == 401
    with pytest.raises(Exception, match="(?i)auth|401|login"):
        client_of(locked, tmp_path)
    files, report = client_of(locked, tmp_path, auth=LOGIN).predict("blue", n=2, steps=2, api_name="/generate")
    assert report["phase"] == "done" and all(Path(path).is_file() for path in files)


# ---- what it says of itself --------------------------------------------------------------------------------


def test_every_parameter_is_typed_and_described(client: Client) -> None:
    told: Any = client.view_api(return_format="dict")
    assert told["unnamed_endpoints"] == {} and list(told["named_endpoints"]) == [f"/{name}" for name in NAMES]
    for name, kind in CALLS.items():
        endpoint = told["named_endpoints"][f"/{name}"]
        assert endpoint["description"] == kind.__doc__
        assert [one["parameter_name"] for one in endpoint["parameters"]] == [one.name for one in fields(kind)]  # type: ignore[arg-type]
        for one in endpoint["parameters"]:
            assert one["type"].keys() & {"type", "enum", "anyOf", "oneOf"}, one
            assert one["python_type"]["description"] == about(one["parameter_name"])
        assert [one["label"] for one in endpoint["returns"]] == ["pictures", "report"]
    assert about("n").endswith("(1 to 64)")
    assert get_args(Preset) == tuple(PRESETS) and get_args(GeneratePreset) == tuple(GENERATE_PRESETS)


def test_calls_do_not_wait_without_end(studio: Server) -> None:
    assert studio.page._queue.max_size == WAITING


# ---- tools for MCP -----------------------------------------------------------------------------------------


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionsError, match=r"^--mcp: .*pip install 'gradio\[mcp\]'$"):
        check_mcp(True)
    check_mcp(False)
    with pytest.raises(OptionsError, match="password"):
        LaunchOptions(mcp=True, auth=LOGIN)


def test_many_pictures_are_told_of_by_address(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for size, shown in ((10, True), (MOST_SHOWN, False)):
        path.write_bytes(bytes(size))
        files = [{"path": str(path), "url": "http://here/a.png"}] * 2
        expected = [*(files if shown else ["http://here/a.png"] * 2), '{"step": 1}']
        assert parts_of([files, {"step": 1}]) == parts_of([(files, {"step": 1})]) == expected


def test_the_endpoints_are_tools() -> None:
    mcp = pytest.importorskip("mcp", reason="pip install -r requirements-dev.txt")
    from mcp.client.streamable_http import streamablehttp_client

    server = serve(tiny_models(), LaunchOptions(port=free_port(), browser=False, mcp=True))

    async def use() -> None:
        async with (
            streamablehttp_client(f"{server.address}gradio_api/mcp") as (reading, writing, _),
            mcp.ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            assert tuple(tools) == NAMES
            schema = tools["generate"].inputSchema
            assert schema["required"] == ["prompt"] and schema["properties"]["n"]["description"] == about("n")
            answer = await session.call_tool("generate", {"prompt": "blue", "n": 2, "steps": 2})
            assert not answer.isError
            assert [part.type for part in answer.content] == ["image", "text", "image", "text", "text"]
            assert json.loads(answer.content[-1].text)["phase"] == "done"
            refused = await session.call_tool("generate", {"prompt": "blue", "n": 65})
            assert refused.isError and "n: 65 is outside 1 to 64." in refused.content[0].text

    try:
        assert ask(server, "POST", "/mcp", b"{}", {**JSON, "Origin": "http://evil.test"})[0] == 403
        awaited(use())
    finally:
        server.close()
