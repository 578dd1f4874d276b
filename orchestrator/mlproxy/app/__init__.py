"""The daemon: lifecycle, supervision, control socket."""
