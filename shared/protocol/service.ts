import { z } from 'zod';
import { counter, ipAddress, port, spiffeId, timestamp } from './wire-values.ts';

/**
 * Services in several places: addresses that stand for all hosts on which a workload is registered, and where those hosts are. Who may answer is said by
 * registration, as everywhere: a service names an identity, and every confirmed address with a listener of it at the service's port is a member.
 */

/** How many addresses may lead to one service. */
export const MAX_SERVICE_ADDRESSES = 16;

export const serviceName = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/,
    'is no name of a service: 1 to 63 lower-case letters, digits, dots and dashes',
  );

/** Where programs connect to. It is nobody's own: no host has it, and no node's address can be one. */
export const serviceAddress = z.object({ address: ipAddress, port });

/** PUT /services/{name}. */
export const newService = z.object({
  /** Who must answer, wherever the connection is taken. */
  spiffeId,
  /** The port of the members' listeners. */
  port,
  addresses: z.array(serviceAddress).min(1).max(MAX_SERVICE_ADDRESSES),
});

/** As agents are told, under the name as key. */
export const serviceRecord = newService.extend({ name: serviceName });

/** GET /services, GET, PUT and DELETE /services/{name}. */
export const service = serviceRecord.extend({
  createdBy: z.string(),
  createdAt: timestamp,
  /** Confirmed addresses with that listener now. None may be a mistake in the spelling. */
  members: counter,
});
export const servicePage = z.object({ items: z.array(service), next: z.string().max(4096).nullable() });

/** A region, or a region and a zone of it: `eu-west` or `eu-west/a`. An operator declares it; a host says nothing of it. */
export const locality = z
  .string()
  .regex(
    /^[A-Za-z0-9._-]{1,63}(\/[A-Za-z0-9._-]{1,63})?$/,
    'is no place: REGION or REGION/ZONE, each of 1 to 63 letters, digits, dots, dashes and underscores',
  );

/** As agents are told of a host whose place is known, under its agent's SPIFFE ID as key. */
export const placeRecord = z.object({
  nodeId: spiffeId,
  locality,
  /** Its confirmed addresses. */
  addresses: z.array(ipAddress),
});

/** PUT and DELETE /nodes/{nodeId}/place, before the host attests, too. */
export const newPlace = z.object({ locality });
export const place = newPlace.extend({ nodeId: spiffeId });

export type ServiceAddress = z.output<typeof serviceAddress>;
export type NewService = z.output<typeof newService>;
export type ServiceRecord = z.output<typeof serviceRecord>;
export type PlaceRecord = z.output<typeof placeRecord>;
