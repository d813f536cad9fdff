"""What a person can ask for, one file a task: each makes a `Task` of its settings, ready to run.

generate, edit, inpaint and translate are the tasks; inversion finds a person's own picture in a latent space,
styleclip holds the methods that edits are compared with.
"""

from engine.tasks.canvas import Inpainting, prepare_mask
from engine.tasks.editing import Editing, edit
from engine.tasks.generation import Generation, check, generate
from engine.tasks.inpainting import inpaint, look_around
from engine.tasks.task import CodeStage, Task, baseline
from engine.tasks.translation import Translation, check_translation, translate

__all__ = [
    "CodeStage",
    "Editing",
    "Generation",
    "Inpainting",
    "Task",
    "Translation",
    "baseline",
    "check",
    "check_translation",
    "edit",
    "generate",
    "inpaint",
    "look_around",
    "prepare_mask",
    "translate",
]
