"""A studio that asks for a name: nothing before the login, everything after it."""

import urllib.error
import urllib.request

import pytest
from playwright.sync_api import Browser

from gmi_ui.studio import LaunchOptions, serve
from tests.browser.helpers import free_port, start, wait_for_phase
from tests.gmi_ui.tiny import tiny_models


def test_a_run_needs_the_login(browser: Browser) -> None:
    options = LaunchOptions(port=free_port(), browser=False, auth=("ann", "secret"))
    server = serve(tiny_models(), options)
    try:
        request = urllib.request.Request(
            f"{server.address}gradio_api/component_server/",
            data=b'{"component_id": 1, "fn_name": "newest_frame", "session_hash": "a", "data": {}}',
            headers={"Content-Type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request)
        page = browser.new_page()
        page.goto(server.address)
        page.get_by_label("username").fill("ann")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        start(page, "blue", n=2, steps=2)
        wait_for_phase(page, "done")
        page.context.close()
    finally:
        server.close()
