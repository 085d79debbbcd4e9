from typing import ClassVar

from trunkline import Secret
from trunkline.settings import Converted, Settings, setting, settings
from trunkline_openai import Profile, chat_completions


@settings
class AcmeSettings(Settings):
    """How Acme's API is reached."""

    provider: ClassVar[str] = "acme"
    api_key: Converted[Secret, str] = setting("API Key", "The key of your account.", environment=("ACME_API_KEY",))
    api_url: str = setting("API URL", "The root of the API.", default="https://api.acme.example/v1")


acme = chat_completions(name="acme", settings=AcmeSettings, profile=Profile(name="acme", stream_options=True))
