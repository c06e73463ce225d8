import { BlockList, isIP } from 'node:net';
import type { Cidr } from '../capture/cidr.ts';
import type { AgentConfig } from '../config/config.ts';
import type { GatewayNetworks } from '../proxy/outside/gateway-reach.ts';

/** The networks that the configuration names; the servers of the mesh, as far as they are named by address, are refused as well. */
export function buildGatewayNetworks({
  egress,
  servers,
}: Pick<AgentConfig, 'egress' | 'servers'>): GatewayNetworks {
  const refuses = buildList(egress.gatewayRefuses);
  for (const { host } of servers)
    if (isIP(host) !== 0) refuses.addAddress(host, isIP(host) === 4 ? 'ipv4' : 'ipv6');
  return { refuses, allows: buildList(egress.gatewayAllows) };
}

function buildList(networks: readonly Cidr[]): BlockList {
  const list = new BlockList();
  for (const { family, address, prefixBits } of networks)
    list.addSubnet(address, prefixBits, family === 'ip' ? 'ipv4' : 'ipv6');
  return list;
}
