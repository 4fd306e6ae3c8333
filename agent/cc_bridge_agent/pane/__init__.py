"""The interactive Claude Code in a tmux pane, spoken to as if it were ``claude -p``: stream-json on stdin and stdout.

The agent starts this program in Claude Code's place, so journal, replay and turn ids are the same as ever. What
happens in the pane is known from four sources, none of which is the screen:

* hooks: a prompt was taken, a permission is wanted, a turn has stopped (files.py has the programs that they run),
* the transcript, Claude Code's own record: whole messages and tool results, the queue, interrupts (transcript.py),
* the API's stream on its way to Claude Code, where it may be read: tokens, retries (relay.py),
* the editor that Claude Code calls on Ctrl-G: the way in, and what stands in the input line (input_line.py).

translator.py makes one conversation of them; it and input_line.py, http.py and text.py do no I/O.
"""
