module everything

go 1.24

require mayfly/sdk/go/mayfly v0.0.0

replace mayfly/sdk/go/mayfly => ../../go/mayfly
