// Package service runs meshbox as a service of systemd: it writes the unit, has
// systemd start it, says how it is, and takes it away again. The unit is told from
// others by its first line; what somebody else wrote is not touched, and data never.
//
// A system unit runs as a user of its own, made by systemd while it runs
// (DynamicUser), with /var/lib/meshbox as the one folder it may write. A user unit
// runs as the user, with what of the sandbox needs no rights.
package service
