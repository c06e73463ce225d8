CREATE TABLE "node_places" (
	"node_id" text PRIMARY KEY NOT NULL,
	"locality" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "services" (
	"name" text PRIMARY KEY NOT NULL,
	"spiffe_id" text NOT NULL,
	"port" integer NOT NULL,
	"addresses" jsonb NOT NULL,
	"created_by" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
