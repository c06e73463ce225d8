import type { MemberStatus, ServiceStatus } from './services.ts';

/**
 * What several processes of one host see of the same services, as one: connections are added up, and a member counts as passed over for as long as any of them passes it over.
 * Of a service that they were not told of alike, the first one's members count.
 */
export function mergeServices(seen: readonly (readonly ServiceStatus[])[]): readonly ServiceStatus[] {
  const [first = [], ...others] = seen;
  return first.map((service) => {
    const same = others.flatMap((services) => services.filter(({ name }) => name === service.name));
    return { ...service, members: service.members.map((member) => mergeMember(member, same)) };
  });
}

function mergeMember(member: MemberStatus, others: readonly ServiceStatus[]): MemberStatus {
  const all = others
    .flatMap(({ members }) => members)
    .filter(({ address, port }) => address === member.address && port === member.port);
  const lastFailure = [member, ...all].find((each) => each.lastFailure !== undefined)?.lastFailure;
  return {
    ...member,
    connections: all.reduce((sum, { connections }) => sum + connections, member.connections),
    ejectedMs: Math.max(member.ejectedMs, ...all.map(({ ejectedMs }) => ejectedMs)),
    ...(lastFailure === undefined ? {} : { lastFailure }),
  };
}
