import { constants } from 'node:os';
import { errnoName } from './libc.ts';
import { askNetlink, netlinkError, nextSequence } from './netlink.ts';
import { encodeElementChanges, encodeFlush, type ElementChange } from './nftables-elements-message.ts';
import type { InNamespace, NetworkNamespace } from './network-namespace.ts';
import { decodeNftablesMessages } from './nftables-message.ts';

const NETLINK_NETFILTER = 12;
const ASKED = {
  family: NETLINK_NETFILTER,
  reason: 'nftables_elements',
  action: 'Cannot change the members of a set',
};

const { ENOENT, EEXIST } = constants.errno;

let ownTransactions = 0;
const transactionsWithin = new WeakMap<NetworkNamespace, number>();

/**
 * How many transactions of `changeElements` the kernel has taken in a network namespace: each has counted one generation of the rule set there on. The kernel counts only what changes something, so
 * neither is that of an element which was there, which is refused, nor are those of `flushSets`, of which nobody hears whether there was something.
 */
export function countElementTransactions({ namespace }: InNamespace = {}): number {
  return namespace === undefined ? ownTransactions : (transactionsWithin.get(namespace) ?? 0);
}

/** Why nothing was changed: an element that was to be added is there, or one that was to be removed is not, or its set is not. */
export type Unchanged = 'exists' | 'missing';

/**
 * Changes elements of sets of a table of the family inet, of a network namespace, in one transaction, all or none. What is returned says that it was none; undefined: all. No more than some hundred at
 * once. Needs CAP_NET_ADMIN. Throws `unavailable`, reason `nftables_elements`, also where the set is not there and nothing was to be removed.
 */
export function changeElements(
  table: string,
  changes: readonly ElementChange[],
  where: InNamespace = {},
): Unchanged | undefined {
  if (changes.length === 0) return undefined;
  const errorNumber = run((sequence) => encodeElementChanges(sequence, table, changes), where);
  if (errorNumber === EEXIST) return 'exists';
  if (errorNumber === ENOENT && changes.some(({ kind }) => kind === 'remove')) return 'missing';
  requireDone(errorNumber);
  countOne(where);
  return undefined;
}

/** Empties sets. Throws as `changeElements`. */
export function flushSets(table: string, sets: readonly string[], where: InNamespace = {}): void {
  requireDone(run((sequence) => encodeFlush(sequence, table, sets), where));
}

/** The number of the first error, 0 where there is none. */
function run(encode: (sequence: number) => Buffer, { namespace }: InNamespace): number {
  const sequence = nextSequence(ASKED.family);
  const encoded = encode(sequence);
  const bytes = Buffer.from(new ArrayBuffer(encoded.length));
  bytes.set(encoded);
  let errorNumber = 0;
  askNetlink({ ...ASKED, bytes, length: bytes.length, namespace }, (receive) => {
    const answer = decodeNftablesMessages(receive()).find((each) => each.sequence === sequence)?.message;
    if (answer?.kind !== 'error') throw netlinkError(ASKED, 'the kernel answers with something else');
    errorNumber = answer.errorNumber;
    // Of a transaction that failed there may be more to read: the next question is given a new socket.
    return errorNumber === 0 ? true : undefined;
  });
  return errorNumber;
}

function requireDone(errorNumber: number): void {
  if (errorNumber !== 0) throw netlinkError(ASKED, errnoName(errorNumber));
}

function countOne({ namespace }: InNamespace): void {
  if (namespace === undefined) ownTransactions += 1;
  else transactionsWithin.set(namespace, countElementTransactions({ namespace }) + 1);
}
