module github.com/taskbridge/taskbridge-fiber/adapters/jsonschema

go 1.25.0

require (
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/taskbridge/taskbridge-fiber v0.0.0
	go.uber.org/goleak v1.3.0
	golang.org/x/text v0.14.0
)

require github.com/goccy/go-json v0.12.0 // indirect

replace github.com/taskbridge/taskbridge-fiber => ../..
