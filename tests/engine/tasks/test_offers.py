"""What is said of pictures that a model cannot draw: what to expect, and models that there are for others."""

from engine.models.public import public_model
from engine.tasks.offers import out_of_domain, to_be_fetched


def test_each_task_says_what_to_expect_and_what_else_to_try() -> None:
    for task, expected in (("edit", "look like the reconstruction"), ("inpaint", "what it paints into it")):
        told = out_of_domain(task, "avatars", ["avatars", "/somewhere/mine.pt", "stylegan2-cat-config-f"])
        assert "unlike those the model was trained on" in told and expected in told
        assert "Also here: mine.pt, stylegan2-cat-config-f." in told
        assert "horses (stylegan2-horse-config-f)" in told and "cats (" not in told  # that one is here
    assert "Also here" not in out_of_domain("edit", "avatars", ["avatars"])


def test_only_models_that_can_do_it_are_offered() -> None:
    """One for each kind of pictures; any of them is what diffusion models draw."""
    offered = to_be_fetched("inpaint")
    assert {"faces", "dogs", "cars", "cats", "churches", "horses"} <= offered.keys()
    assert not any(shown[0].isdigit() for shown in offered)
    assert {public_model(name).family for name in offered.values()} == {"stylegan2", "one_step_diffusion"}
    assert offered["faces"] == "e4e-ffhq" and to_be_fetched("nothing") == {}
