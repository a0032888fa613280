"""What a problem type needs: a head, a loss, metrics, and a way to read predictions."""

from distkeras.tasks.task import Task, make_task

__all__ = ["Task", "make_task"]
