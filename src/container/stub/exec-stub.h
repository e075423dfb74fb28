/* SPDX-License-Identifier: Apache-2.0 */
/* The conversation with the exec stub (exec-stub.c): its argument vector, and what it sends over the sync socket. */
#pragma once

/*
 * argv[0] is made of: the sync socket's number, then any of these letters in this order:
 *	f  clone a sibling (CLONE_PARENT), send its pid, and end; the sibling goes on with the rest
 *	s  begin a session
 *	t  make fd 0 the controlling terminal
 *	w  send READY and wait for a word before executing
 *	a  followed by a number: accept a connection on this listening socket, which takes the sync socket's place; a signal that asks for an end
 *	   is followed meanwhile
 *	c  argv[1] is the working directory to enter (the following arguments move up)
 *	i  followed by a number: execute this fd (--init) instead of the file
 * argv[1] is the file to execute, argv[2...] the arguments it gets.
 */
enum bh_stub_kind {
	BH_STUB_FAILED = 0x45584543, /* "EXEC": value = errno, nothing was executed */
	BH_STUB_PID,                 /* value = pid of the sibling */
	BH_STUB_READY,
};

struct bh_stub_message {
	unsigned kind;
	int value;
};
