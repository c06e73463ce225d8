import { BlockList } from 'node:net';
import type { Cidr } from '../capture/cidr.ts';

/** Networks as Node compares addresses with them. */
export function buildNetworkList(networks: readonly Cidr[]): BlockList {
  const list = new BlockList();
  for (const { family, address, prefixBits } of networks)
    list.addSubnet(address, prefixBits, family === 'ip' ? 'ipv4' : 'ipv6');
  return list;
}
