"""Pure protocol core: ids, messages, codecs, state machines, verdicts. See protocols/README.md."""
