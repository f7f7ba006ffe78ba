// Command meshbox is a message broker for the AI coding sessions of one
// household and the people who run them: one binary, one SQLite file, one room.
package main

import (
	_ "embed"
	"os"

	"meshbox/broker/cli"
	"meshbox/web"
)

// schema lives at the top of the repository, where a reader looks for it. No
// package below could embed it from there, so main does and hands it down.
//
//go:embed schema.sql
var schema string

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Assets{Schema: schema, Web: web.FS}))
}
