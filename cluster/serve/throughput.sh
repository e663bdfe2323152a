# Ray Serve's throughput profile: source this before `ray start`, on every machine of a cluster.
# It is what jobs.serve sets for a cluster that it starts itself; lib/winnow_ray/serving/profile.py gives the reasons.

export RAY_SERVE_THROUGHPUT_OPTIMIZED=1
export RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE=1
export RAY_SERVE_ENABLE_HA_PROXY=1
export RAY_SERVE_HAPROXY_BALANCE_ALGORITHM='leastconn
    option http-buffer-request
    option forwardfor
    default-server maxconn 8
    timeout queue 12ms
    timeout http-request 5s
    timeout http-keep-alive 30s
    timeout client 90s
    http-error status 503 content-type application/json hdr retry-after 1 string '"'"'{"errors": [{"field": "server", "message": "too many requests wait"}]}'"'"''
export RAY_SERVE_HAPROXY_NBTHREAD=1
export RAY_SERVE_HAPROXY_RETRY_ON='conn-failure empty-response'
export RAY_SERVE_HAPROXY_RETRIES=3
export RAY_SERVE_HAPROXY_METRICS_ENABLED=0
export RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S=5
export RAY_worker_niceness=0
export RAY_JEMALLOC_PROFILE=raylet
export RAY_JEMALLOC_CONF=tcache:false,narenas:1
export RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S=30

# HAProxy's control socket is writable for all users, so nobody else may enter its folder. Serve adds
# 58 bytes to the path, of which a socket's may have 97.
haproxy_folder=/tmp/winnow-haproxy-$(id -u)
mkdir -m 700 "$haproxy_folder" 2>/dev/null
if [ -L "$haproxy_folder" ] || [ ! -O "$haproxy_folder" ]; then
    echo "$haproxy_folder belongs to another user: have it removed" >&2
    return 1
fi
chmod 700 "$haproxy_folder"
export RAY_SERVE_HAPROXY_CONFIG_FILE_LOC="$haproxy_folder/haproxy.cfg"
export RAY_SERVE_HAPROXY_SOCKET_PATH="$haproxy_folder/admin.sock"
export RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH="$haproxy_folder/log.sock"
export RAY_SERVE_HAPROXY_SERVER_STATE_BASE="$haproxy_folder"
export RAY_SERVE_HAPROXY_SERVER_STATE_FILE="$haproxy_folder/server-state"
