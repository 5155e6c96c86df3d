// Package jsonschema checks the answers to suspensions against JSON Schemas:
// an engine.ActionValidator. It is a module of its own, so that nobody pays for
// the schema library who does not use it.
//
//	validator, err := jsonschema.New(jsonschema.Config{})
//	eng, err := engine.New(engine.Config{..., ActionValidator: validator})
//
// A suspension carries the schemas of its answers' payloads in its interaction,
// under "schemas" and the action type; what else is in the interaction is the
// host's. Clients see them too, and may make a form of them:
//
//	{
//	  "question": "How much may it cost?",
//	  "schemas": {
//	    "approve": {
//	      "type": "object",
//	      "required": ["limit"],
//	      "properties": {"limit": {"type": "number", "exclusiveMinimum": 0}}
//	    }
//	  }
//	}
//
// An action type without a schema takes any JSON object. Schemas are of draft
// 2020-12 unless their "$schema" names another one (4, 6, 7, 2019-09); "format"
// is an assertion. A reference leads within its own schema and to the drafts'
// meta-schemas; nothing is ever loaded, from the network or from disk. Patterns
// are Go's (RE2), which take linear time.
//
// A handler that makes its schemas asks Validator.Check before it suspends: one
// that does not compile is the host's mistake, and every answer that it should
// check is refused with INTERNAL_ERROR until the suspension expires.
package jsonschema
