// Package clients lets the clients of agents start "meshbox mcp": it finds them by
// their settings, shows what would change, and changes it without damage. A file is
// replaced as a whole or not at all, what was there before is kept beside it,
// comments and unknown keys stay, and what cannot be edited without loss is not
// edited: then there is a snippet for a person to put in.
//
// Where a client has a command for this, and writes its file itself all the time,
// that command is used.
package clients
