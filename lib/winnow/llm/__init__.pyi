from .engines.base import Engine as Engine
from .online.chat import Chat as Chat
from .tasks.base import Task as Task, TextTask as TextTask
from .tasks.registry import TASKS as TASKS
