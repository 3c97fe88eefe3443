module tidegate.io/tests/servers/pause

go 1.26
