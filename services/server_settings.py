"""Settings of the servers, each with its reason.

The servers of a team get these and nothing from the environment; for `sentiflow schedule` and `sentiflow ui` the environment
takes precedence.
"""

PREFECT = {  # server and flow runs
    # loopback only
    "PREFECT_SERVER_API_HOST": "127.0.0.1",
    # Off by default. A second barrier behind the password: it stops simple cross-origin requests, but neither WebSockets nor DNS
    # rebinding, since Prefect does not check Host.
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    # By default leases are in memory: a restarted server forgets who holds a concurrency slot and never frees it.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Even without analytics Prefect's newer pages (V2) request settings from a tracking service; the older ones do not.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Seconds between a run's heartbeats. The minimum, so that a missing one is noticed within minutes.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}
MLFLOW = {  # every MLflow server, including that of `sentiflow ui`
    # Keeps the checks of Host and Origin on. `sentiflow services up` does not start with another value.
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
    # Clickjacking: by default pages of the same host may show MLflow in a frame.
    "MLFLOW_SERVER_X_FRAME_OPTIONS": "DENY",
    # By default it opens pickles, which run any code that somebody uploaded.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # Not used here: an assistant that runs commands on the server's machine, a job runner with seven processes, scorers with
    # custom code.
    "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
MLFLOW_TEAM = MLFLOW | {  # the server of a team, which has accounts and serves the artifacts
    # Refuse requests for which MLflow has no rule.
    "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    # Apply the rules to GraphQL, which MLflow's pages use.
    "MLFLOW_SERVER_ENABLE_GRAPHQL_AUTH": "true",
    # Versions are registered from a model on this server only. By default the source may be any bucket, a file of the server's
    # machine, or the artifacts of an experiment that the account cannot read.
    "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": r"^models:/(m-[0-9a-f]{32}|sentiflow/[0-9]+)\Z",
    # Use no AWS credentials except the artifact storage's.
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_DEFAULT_REGION": "us-east-1",
}
MLFLOW_ACCOUNTS = {  # MLflow reads them from a file
    # MLflow's permissions cannot express that only admin may change or remove what is published, or create experiments.
    "authorization_function": "services.authorization:authenticate",
    # By default every account may read everything.
    "default_permission": "NO_PERMISSIONS",
    "grant_default_workspace_access": "false",
    # Seconds for which a correct password is cached; 0, so that a removed account is locked out immediately.
    "auth_cache_ttl_seconds": "0",
}

POSTGRESQL = {
    # No TCP port: only users who can open the folder of the socket can connect.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # Passwords can be read neither from the connection nor from the tables.
    "password_encryption": "scram-sha-256",
    # No SQL in the log, not even of failed statements: it may contain confidential values.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    # Otherwise a line every five minutes.
    "log_checkpoints": "off",
    # A client that vanished does not hold its locks for hours.
    "idle_in_transaction_session_timeout": "10min",
    "max_connections": "100",
}
# Each role may connect to its own database with its password; nobody else may, the superuser included.
POSTGRESQL_HBA = """\
# TYPE  DATABASE  USER     METHOD
local   mlflow    mlflow   scram-sha-256
local   prefect   prefect  scram-sha-256
"""

RCLONE = {  # the storages: rclone serves a folder through S3's API
    # Not the user's own remotes.
    "RCLONE_CONFIG": "/dev/null",
    "RCLONE_LOG_LEVEL": "NOTICE",
}
