import { z } from 'zod';
import { wireBundle } from './attestation.ts';
import { enforcementRecord } from './enforcement.ts';
import { signedPolicy } from './policy-statement.ts';
import { quarantineRecord } from './quarantine.ts';
import { entry, listenerProtocol } from './registration.ts';
import { placeRecord, serviceRecord } from './service.ts';
import { counter, ipAddress, port, spiffeId } from './wire-values.ts';

/**
 * GET /v1/sync?epoch=&cursor=, mTLS with the agent's SVID: one long answer of newline-delimited JSON, a `syncMessage` a line.
 * It begins with a snapshot, unless the cursor of this epoch can be continued. A snapshot is the whole state: what is absent is gone.
 * A ping comes at the latest every ten seconds; an agent that hears nothing for thirty dials again.
 */

/** The longest line of the stream in bytes; a longer one ends it. */
export const MAX_SYNC_LINE_BYTES = 64 * 1024 * 1024;

/** Who answers at an address. Only confirmed claims are sent. */
export const directoryRecord = z.object({
  network: z.string().max(63),
  address: ipAddress,
  port,
  spiffeId,
  protocol: listenerProtocol,
});

/** One thing that an agent knows, under a key that is unique within its kind. */
export const syncItem = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('entry'), key: z.string(), value: entry }),
  z.object({ kind: z.literal('bundle'), key: z.string(), value: wireBundle }),
  z.object({ kind: z.literal('directory'), key: z.string(), value: directoryRecord }),
  /** Key `mesh`. The artefact is fetched by digest: GET /v1/policy/artifacts/{digest}. */
  z.object({ kind: z.literal('policy'), key: z.string(), value: signedPolicy }),
  z.object({ kind: z.literal('quarantine'), key: z.string(), value: quarantineRecord }),
  /** Key: the scope. */
  z.object({ kind: z.literal('enforcement'), key: z.string(), value: enforcementRecord }),
  z.object({ kind: z.literal('service'), key: z.string(), value: serviceRecord }),
  z.object({ kind: z.literal('place'), key: z.string(), value: placeRecord }),
]);

export const syncKind = z.enum([
  'entry',
  'bundle',
  'directory',
  'policy',
  'quarantine',
  'enforcement',
  'service',
  'place',
]);

export const syncChange = z.discriminatedUnion('op', [
  z.object({ op: z.literal('put'), item: syncItem }),
  z.object({ op: z.literal('delete'), kind: syncKind, key: z.string() }),
]);

export const syncMessage = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('snapshot'),
    epoch: z.string().max(64),
    cursor: counter,
    items: z.array(syncItem),
  }),
  z.object({
    kind: z.literal('changes'),
    epoch: z.string().max(64),
    cursor: counter,
    changes: z.array(syncChange),
  }),
  z.object({ kind: z.literal('ping') }),
]);

/** POST /v1/agent/status: what the agent says of itself, kept with the node and shown to operators. */
export const agentStatus = z.object({
  agentVersion: z.string().max(64),
  cursor: counter,
  policySequence: counter,
  /** Claims, as in attestation. */
  addresses: z.array(ipAddress).max(64),
  /** How far the host's clock is ahead of the server's, to the second, as it compared them with the last answer; absent: not yet. */
  clockSkewMs: z.number().optional(),
});

export type DirectoryRecord = z.output<typeof directoryRecord>;
export type SyncItem = z.output<typeof syncItem>;
export type SyncKind = z.output<typeof syncKind>;
export type SyncChange = z.output<typeof syncChange>;
export type SyncMessage = z.output<typeof syncMessage>;
export type AgentStatus = z.output<typeof agentStatus>;
