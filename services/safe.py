"""Settings of the servers, each with what happens without it.

A server that the team uses gets these and nothing from the environment; for `sentiflow schedule` and `sentiflow ui` the
environment takes precedence.
"""

# What Prefect's server and the runs go by.
PREFECT = {
    # Only this machine reaches the server.
    "PREFECT_SERVER_API_HOST": "127.0.0.1",
    # Off by default. A second barrier behind the password, no more: it stops simple requests of foreign pages, but neither a page
    # that reaches the server under its own host name (DNS rebinding: Prefect does not check Host) nor WebSockets.
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    # In memory, the default, a server that starts again forgets who holds a slot, and the slot is never free again.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # Nothing reports home.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Even so Prefect's newer pages (V2) ask a tracking service on the internet for its settings; the older ones ask nobody.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Seconds between two signs of life of a run; the least that Prefect takes, so that silence is noticed in minutes.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}
# Settings of every MLflow server, the one of `sentiflow ui` included.
MLFLOW = {
    # On: they check the Host and the Origin of every request. `sentiflow services up` does not start with another value.
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
    # By default pages of the same host may show it in a frame; nothing here needs one, and a frame can be clicked through.
    "MLFLOW_SERVER_X_FRAME_OPTIONS": "DENY",
    # By default it opens pickles, which run any code that somebody uploaded.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # An assistant that runs commands on the server's machine, a job runner with seven consumer processes, and scorers with code
    # of their own. Nothing here uses them.
    "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS": "false",
    # Nothing reports home.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# And of the server of a team, which has accounts and serves the artifacts itself.
MLFLOW_TEAM = MLFLOW | {
    # A request that MLflow has no rule for is refused and not let through.
    "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    # The rules hold for GraphQL as well, by which the pages ask.
    "MLFLOW_SERVER_ENABLE_GRAPHQL_AUTH": "true",
    # A version is registered from a model that this server stores, as this project does it. By default its source may be any
    # bucket, a file of the server's machine, or the artifacts of an experiment that the account cannot read.
    "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": r"^models:/(m-[0-9a-f]{32}|sentiflow/[0-9]+)\Z",
    # It asks no cloud machine for keys.
    "AWS_EC2_METADATA_DISABLED": "true",
    # The keys of the user's own cloud are none of this.
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# Of its accounts, which MLflow reads from a file.
MLFLOW_ACCOUNTS = {
    # What MLflow's permissions cannot express: only admin may remove or change what is published, or create experiments.
    "authorization_function": "services.authorization:authenticate",
    # By default everybody with an account may read everything.
    "default_permission": "NO_PERMISSIONS",
    "grant_default_workspace_access": "false",
    # Seconds for which a password that was right is taken for right without a look: whoever is shut out is shut out at once.
    "auth_cache_ttl_seconds": "0",
}

# What PostgreSQL goes by.
POSTGRESQL = {
    # No port at all: whoever cannot open the folder of its socket cannot even knock.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # Passwords are kept and asked for in a way that gives them to nobody who listens or reads the tables.
    "password_encryption": "scram-sha-256",
    # No statement in the log, not even one that failed: it may hold what is nobody's business.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    # A line every five minutes, of nothing.
    "log_checkpoints": "off",
    # A client that vanished holds no lock for hours.
    "idle_in_transaction_session_timeout": "10min",
    "max_connections": "100",
}
# Who may connect, in PostgreSQL's own words: each role to its own database with its password, and nobody else, not even the
# superuser.
POSTGRESQL_HBA = """\
# TYPE  DATABASE  USER     METHOD
local   mlflow    mlflow   scram-sha-256
local   prefect   prefect  scram-sha-256
"""

# What the storage goes by: rclone, which serves a folder as S3 does.
RCLONE = {
    # The user's own remotes are none of this.
    "RCLONE_CONFIG": "/dev/null",
    "RCLONE_LOG_LEVEL": "NOTICE",
}
