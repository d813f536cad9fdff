"""What a person can ask for, one file a task: each makes a `Task` of its settings, ready to run.

generate, edit and inpaint are the tasks; inversion finds a person's own picture in a latent space, styleclip holds the
methods that edits are compared with.
"""

from engine.tasks.editing import Editing, edit
from engine.tasks.generation import Generation, check, generate
from engine.tasks.inpainting import Inpainting, inpaint, prepare_mask
from engine.tasks.task import CodeStage, Task, baseline

__all__ = [
    "CodeStage",
    "Editing",
    "Generation",
    "Inpainting",
    "Task",
    "baseline",
    "check",
    "edit",
    "generate",
    "inpaint",
    "prepare_mask",
]
