from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The demo pack: a shop, its support agent and its tools. Nothing else depends on it."""

    name = "runtime.shop"
    label = "shop"

    def ready(self) -> None:
        from runtime import samples
        from runtime.providers import scripted
        from runtime.shop import agent, releasing
        from runtime.shop import samples as ours

        scripted.register(agent.NAME, agent.reply)
        samples.register(releasing.SLUG, ours.find)
