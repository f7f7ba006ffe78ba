// Package doctor looks for what is wrong with a meshbox: its data file, the machine,
// the server, the address that people use, their keys, and the clients of agents.
// Each finding says what to do. It changes nothing.
package doctor
