"""Django settings. Values from outside come through `console.environment` and nowhere else."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from csp.constants import NONE, SELF

from console import environment

ENV = environment.load()
BASE_DIR = environment.ROOT

SECRET_KEY = ENV.steadyhand_secret_key
AUDIT_KEY = ENV.steadyhand_audit_key
DEBUG = ENV.steadyhand_debug
ALLOWED_HOSTS = ENV.steadyhand_allowed_hosts
BASE_URL = ENV.steadyhand_base_url
ENVIRONMENT_LABEL = ENV.steadyhand_environment
START = ENV.steadyhand_start

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "django_rq",
    "django_htmx",
    "template_partials",
    "csp",
    "allauth",
    "allauth.account",
    "console",
    "approvals",
    "releases",
    "runtime",
    "runtime.mcp",
    "runtime.shop",
    "telemetry",
]

MIDDLEWARE = [
    "console.health.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "console.envelope.EnvelopeMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "console.middleware.ActorMiddleware",
    "console.middleware.ProblemMiddleware",
]

ROOT_URLCONF = "console.urls"
ASGI_APPLICATION = "console.asgi.application"
AUTH_USER_MODEL = "console.User"
# The address is unique whatever its case, by a constraint this check does not know.
SILENCED_SYSTEM_CHECKS = ["auth.W004"]
AUTHENTICATION_BACKENDS = ["console.backends.AccountBackend"]
LOGIN_REDIRECT_URL = "/"
LOGIN_URL = "account_login"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.shell.context",
            ],
            "builtins": ["console.templatetags.ui"],
        },
    }
]


# Either end of a connection notices within a minute that the other has gone without a word: a host that lost its
# power, a path that forgot an idle connection. Until then whoever waits for an answer waits, and what the other had
# locked is locked. The system's own patience is two hours.
IDLE_IN_TRANSACTION_S = 120
DATABASE_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # ms
    "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
    " -c tcp_user_timeout=60000"
    # A process that was frozen in the middle of a transaction does not answer for it: what it has locked is free again.
    f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S * 1000}",
}


def _postgres(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "steadyhand",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": DATABASE_OPTIONS,
        "TEST": {"NAME": "test_steadyhand"},
    }


DATABASES = {"default": _postgres(ENV.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = ENV.redis_url or "redis://127.0.0.1:6379/0"
RQ_QUEUES = {
    name: {"URL": REDIS_URL, "DEFAULT_TIMEOUT": 3600, "SERIALIZER": "rq.serializers.JSONSerializer"}
    for name in ("runs-interactive", "runs-background", "runs-evaluation", "chores", "callbacks")
}
RQ = {"JOB_CLASS": "console.queue.Job", "QUEUE_CLASS": "console.queue.Queue", "COMMIT_MODE": "on_db_commit"}
RQ_SHOW_ADMIN_LINK = False

CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
SESSION_ENGINE = "django.contrib.sessions.backends.db"

STATIC_URL = "/static/"
STATIC_ROOT = ENV.steadyhand_data_dir / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "console.vendor.VendorFinder",
]
STORAGES = {"staticfiles": {"BACKEND": "servestatic.storage.CompressedManifestStaticFilesStorage"}}
# One file of one package, never its folder: see UI.md.
VENDOR_FILES = {"vendor/plotly.min.js": ("plotly", "package_data/plotly.min.js")}

# plotly's bundled map library inserts one style element when it loads; its hash is pinned with the package.
PLOTLY_STYLE = "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF, PLOTLY_STYLE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "console.views.csrf_failure"
if ENV.steadyhand_https:
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31536000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

ACCOUNT_ADAPTER = "console.accounts.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# The programs' interface: console mounts each app's router by name.
API_ROUTERS = [
    ("", "runtime.api.router"),
    ("", "runtime.thread_api.router"),
    ("", "runtime.schedule_api.router"),
    ("", "runtime.rule_api.router"),
    ("", "runtime.health_api.router"),
    ("", "approvals.api.router"),
    ("", "releases.api.router"),
    ("", "telemetry.api.router"),
]
API_REQUESTS_PER_MINUTE = ENV.steadyhand_api_requests_per_minute
API_STREAMS_PER_TOKEN = 10
API_LARGEST_BODY_BYTES = 1_000_000
QUEUE_LIMIT = ENV.steadyhand_queue_limit
QUEUE_ALARM_SECONDS = ENV.steadyhand_queue_alarm_seconds
AGENT_QUEUE_LIMIT = ENV.steadyhand_agent_queue_limit
QUEUE_OLDEST_SECONDS = ENV.steadyhand_queue_oldest_seconds
MODEL_CONCURRENCY = ENV.steadyhand_model_concurrency
TURNS_AT_ONCE = ENV.steadyhand_turns_at_once
ALLOW_PRIVATE_HOSTS = ENV.steadyhand_allow_private_hosts
MCP_COMMANDS = ENV.steadyhand_mcp_commands
MCP_DIR = ENV.steadyhand_data_dir / "mcp"  # each server that is started has a directory of its own there

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

TOOL_MODULES = ["runtime.builtin_tools", "runtime.shop.tools", *ENV.steadyhand_tools]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"()": "console.logs.Formatter", "format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": ENV.steadyhand_log_level},
    "loggers": {
        **{name: {"level": "WARNING"} for name in ("asyncio", "httpx2", "rq", "uvicorn")},
        # Its client logs what servers answer, with tracebacks; what matters of it is told where it is used.
        **{name: {"level": "CRITICAL"} for name in ("mcp", "client")},
        # It warns of each job whose worker died, minutes after its run was resumed.
        "rq.registry": {"level": "ERROR"},
    },
}
