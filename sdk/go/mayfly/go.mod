module mayfly/sdk/go/mayfly

go 1.24
