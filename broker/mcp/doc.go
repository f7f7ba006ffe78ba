// Package mcp is a member's seat at the mesh for an agent that speaks the Model
// Context Protocol: a few tools over a peer.
//
// # Who has a message
//
// A push is acknowledged when the text was handed to the agent, and not when it
// reached this process: an agent that ends before it looked leaves what waits to
// the next session, and "delivered" in the ledger means that the model was given
// it. Of a topic the read mark is set then too, so that people see who has seen
// what they wrote.
//
// # Whose words they are
//
// What others wrote stands between marks that they cannot guess, with who wrote
// it, and the agent is told that it is information and no instruction of its user.
package mcp
