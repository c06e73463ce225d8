import { z } from 'zod';
import { counter, dnsName, ipAddress, port, selector, spiffeId, timestamp } from './wire-values.ts';

/**
 * How the inbound side reads what comes in on a listener. `auto`: HTTP/1.1 where the first bytes say so, otherwise bytes. `egress`: no application listens there; it is
 * the mesh port of a gateway, which takes out of the mesh what the policy sends through it.
 */
export const listenerProtocol = z.enum(['auto', 'http', 'tcp', 'egress']);

/**
 * A port on which a workload answers, on each host where its parent agent runs: at all confirmed addresses of the host, or at one of
 * them, as in a pod, which goes before.
 */
export const listener = z.object({
  port,
  protocol: listenerProtocol.default('auto'),
  /** The program there expects the header of PROXY protocol version 2 before everything else; absent: it does not. */
  proxyProtocol: z.literal('v2').optional(),
  /** The program there is connected from the caller's address; absent: from the host's own. */
  transparent: z.literal(true).optional(),
  /** Absent: all of them. */
  address: ipAddress.optional(),
});

/** What an operator writes. */
export const newEntry = z.object({
  spiffeId,
  /** The agent that may serve this identity (its SPIFFE ID), or a node alias. */
  parentId: spiffeId,
  selectors: z.array(selector).min(1).max(32),
  /** Life of the X509-SVID in seconds. */
  ttlSeconds: z
    .number()
    .int()
    .min(20)
    .max(86_400 * 7)
    .default(86_400),
  federatesWith: z.array(z.string().max(255)).max(64).default([]),
  dnsNames: z.array(dnsName).max(16).default([]),
  hint: z.string().max(1024).default(''),
  listeners: z.array(listener).max(64).default([]),
});

export const entry = newEntry.extend({
  entryId: z.uuid(),
  /** Grows by one with each change of the entry. */
  revision: counter,
  createdAt: timestamp,
});

export type Listener = z.output<typeof listener>;
export type ListenerProtocol = z.output<typeof listenerProtocol>;
export type NewEntry = z.output<typeof newEntry>;
export type Entry = z.output<typeof entry>;
