module tidegate.io/tests/servers/grafana-schema

go 1.26

require github.com/grafana/grafana-foundation-sdk/go v0.0.18
