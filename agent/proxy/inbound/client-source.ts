import { isIPv4 } from 'node:net';
import { PicketError } from '../../../shared/errors/errors.ts';
import type { Directory } from '../../directory/directory.ts';
import { canonicalAddress, isHostAddress } from '../../directory/host-address.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { Arrival } from './arrival.ts';

/**
 * From which address an application is connected whose listener asks for the caller's. It is the address of the TCP peer (`Arrival.source`), which nobody can choose: what a caller says of itself counts for
 * nothing. Undefined for a caller on this very host, whose address is the host's own anyway. Throws `unavailable`, reason `dial_failed`, where it cannot be had: the connection is then refused, and
 * never made from another address, by which the application would take the caller for somebody else.
 */
export function findClientSource(
  {
    source,
    destination,
    isLocal,
    ...arrival
  }: Pick<Arrival, 'source' | 'destination' | 'isLocal'> & InNamespace,
  { namespace, directory }: InNamespace & { readonly directory: Pick<Directory, 'isHere'> },
): string | undefined {
  const refuse = (why: string): PicketError =>
    new PicketError('unavailable', 'dial_failed', `Cannot connect from ${source.address}: ${why}`);
  if (namespace !== undefined || arrival.namespace !== undefined)
    throw refuse('it is not built for network namespaces beside the host’s own');
  if (isLocal) return undefined;
  const address = canonicalAddress(source.address);
  if (address === undefined || !isHostAddress(address)) throw refuse('it is no address of one host alone');
  if (directory.isHere(address)) throw refuse('it is an address of this host, and the caller is not');
  if (isIPv4(address) !== isIPv4(canonicalAddress(destination.address) ?? ''))
    throw refuse(`${destination.address} is of the other family`);
  return address;
}
