CREATE TABLE "enforcement_modes" (
	"scope" text PRIMARY KEY NOT NULL,
	"mode" text NOT NULL,
	"set_by" text NOT NULL,
	"set_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "access_log" ADD COLUMN "source_address" text;--> statement-breakpoint
ALTER TABLE "access_log" ADD COLUMN "would_deny" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "access_log" ADD COLUMN "rules" text[] DEFAULT '{}' NOT NULL;--> statement-breakpoint
CREATE INDEX "access_log_would_deny" ON "access_log" USING btree ("target_spiffe_id","ts") WHERE would_deny;