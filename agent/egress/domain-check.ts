/** Finds out where names lead. Port: the adapter `dns-domain-check.ts` asks the resolvers of this host. */
export interface DomainCheck {
  /**
   * Whether the resolvers of this host say that `domain` (as of `domainNameOf`) leads to `address`. False as well when they say nothing, and when too much is
   * being asked, by all or by this `asker`, who is whoever is to leave others their share. Never rejects. To be asked only of names that the policy would allow:
   * what is asked leaves the host.
   */
  leadsTo(domain: string, address: string, asker: string): Promise<boolean>;
}
