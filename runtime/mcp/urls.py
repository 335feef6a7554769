app_name = "mcp"
urlpatterns: list[object] = []
