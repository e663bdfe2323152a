# Ray Serve's throughput profile: source this before `ray start`, on every machine of a cluster.
# It is what jobs.serve sets for a cluster that it starts itself; lib/winnow_ray/serving/profile.py gives the reasons.

export RAY_SERVE_THROUGHPUT_OPTIMIZED=1
export RAY_SERVE_ENABLE_HA_PROXY=1
export RAY_SERVE_HAPROXY_BALANCE_ALGORITHM='leastconn
    option http-buffer-request
    option forwardfor
    default-server maxconn 8
    timeout queue 12ms
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
