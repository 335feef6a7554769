from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The demo pack: a shop, its support agent and its tools. Nothing else depends on it."""

    name = "runtime.shop"
    label = "shop"

    def ready(self) -> None:
        from runtime.providers import scripted
        from runtime.shop import agent

        scripted.register(agent.NAME, agent.reply)
