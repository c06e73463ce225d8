/** Finds out where names lead. Port: the adapter `dns-domain-check.ts` asks the resolvers of this host. */
export interface DomainCheck {
  /**
   * Whether the resolvers of this host say that `domain` (as of `domainNameOf`) leads to `address`. False as well when they say nothing, and when too much is
   * being asked. Never rejects. To be asked only of names that the policy would allow: what is asked leaves the host.
   */
  leadsTo(domain: string, address: string): Promise<boolean>;
}
