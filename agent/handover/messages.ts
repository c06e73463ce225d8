import { z } from 'zod';
import { counter, timestamp } from '../../shared/protocol/wire-values.ts';
import { heardPosition } from './heard-position.ts';

/**
 * What an agent and the process that takes over from it tell each other, as JSON on the channel that the first gave to the second when it started it:
 *
 * | who       | says     | and then                                                                          |
 * |-----------|----------|-----------------------------------------------------------------------------------|
 * | successor | hello    | its settings are good; it has touched nothing                                     |
 * | incumbent | handover | what it knows is written down; it is no writer of state and spool any more        |
 * | successor | prepared | it has read all that, and heard the server, or not                                |
 * | incumbent | go       | it opens nothing any more; what it opened since it started the successor is given |
 * | successor | serving  | it takes connections; unless the server has told the incumbent something, there is no way back |
 * | incumbent | draining | it takes none; told again every second until its end                              |
 *
 * Before `go` and after `serving`, where the server has told the incumbent something up to a position that the successor did not name:
 *
 * | who       | says     | and then                                                                          |
 * |-----------|----------|-----------------------------------------------------------------------------------|
 * | incumbent | catch_up | the server has told it all up to there                                            |
 * | successor | heard    | it has been told as much, or was not in time                                      |
 *
 * Instead of any of its own the successor may say that it failed. The versions of the two may differ: fields are added, never changed.
 */
export const HANDOVER_PROTOCOL = 1;

/** 64 workers have one at each of a dozen addresses, and each namespace that is captured has one. */
const MAX_SOCKETS = 4096;
const socketName = z.string().max(256);

export const fromSuccessor = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    protocol: counter,
    version: z.string().max(128),
    /** Whether it takes what was opened since it was started; absent in versions that cannot. */
    takesLate: z.boolean().optional(),
  }),
  z.object({
    type: z.literal('prepared'),
    /** Whether the server was heard: what it says now is in force. */
    isCurrent: z.boolean(),
    /** How far; absent where nothing was ever heard, and in versions that cannot catch up. */
    position: heardPosition.optional(),
  }),
  z.object({ type: z.literal('serving'), position: heardPosition.optional() }),
  z.object({ type: z.literal('heard'), position: heardPosition.optional() }),
  z.object({ type: z.literal('failed'), message: z.string().max(4096) }),
]);

export const fromIncumbent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('handover'),
    version: z.string().max(128),
    sockets: z.array(z.object({ name: socketName, fd: z.number().int().min(3) })).max(MAX_SOCKETS),
    /** The descriptor by which others come. */
    way: z.number().int().min(3).optional(),
  }),
  z.object({
    type: z.literal('go'),
    /** What was opened since, in the order in which it waits on the way. */
    sockets: z
      .array(z.object({ name: socketName }))
      .max(MAX_SOCKETS)
      .optional(),
  }),
  /** Only to whoever named a position. */
  z.object({ type: z.literal('catch_up'), position: heardPosition }),
  z.object({
    type: z.literal('draining'),
    connections: counter,
    /** When what is left will be cut. */
    endsAt: timestamp,
  }),
]);

export type FromSuccessor = z.output<typeof fromSuccessor>;
export type FromIncumbent = z.output<typeof fromIncumbent>;

/** The descriptor of the first socket that a successor inherits; the others follow. */
export const FIRST_SOCKET_FD = 3;
