# What an environment decides. Nothing here has a default that differs between environments: it stands in envs/.

variable "environment" {
  description = "Which environment this is; part of every name."
  type        = string

  validation {
    condition     = contains(["dev", "staging", "prod"], var.environment)
    error_message = "The environment is dev, staging or prod."
  }
}

variable "account_id" {
  description = "The AWS account that the environment lives in; the provider refuses any other."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An account has twelve digits."
  }
}

variable "region" {
  description = "Where everything is: next to the archive's bucket by default, not in the US, where REST answers 451."
  type        = string
  default     = "ap-northeast-1"

  validation {
    condition     = !startswith(var.region, "us-")
    error_message = "Binance's REST API answers 451 to addresses in the US: take a region elsewhere."
  }
}

variable "archive_bucket" {
  description = "The exchange's public bucket that tasks may read through the S3 endpoint."
  type        = string
  default     = "data.binance.vision"
}

variable "availability_zones" {
  description = "The zones that subnets spread over, by name: AWS's own list grows by itself, and would move them."
  type        = list(string)

  validation {
    condition     = length(var.availability_zones) >= 2 && length(var.availability_zones) <= 4
    error_message = "The database and the load balancer need two zones at least; the address range has room for four."
  }
}

variable "vpc_cidr" {
  description = "The VPC's range of addresses, a /16 to /20."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && tonumber(split("/", var.vpc_cidr)[1]) <= 20
    error_message = "A range such as 10.20.0.0/16, not narrower than /20."
  }
}

variable "nat_gateways" {
  description = "How many: one serves all zones, one a zone survives the loss of a zone."
  type        = number

  validation {
    condition     = var.nat_gateways >= 1
    error_message = "REST APIs are asked over the internet, so there is one NAT gateway at least."
  }
}

variable "interface_endpoints" {
  description = "AWS services, such as glue, that tasks reach within the VPC; the others are reached through NAT."
  type        = list(string)
}

variable "image" {
  description = "The image of lakehouse, by digest: a tag can be moved, a digest cannot."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "The image is named by digest: REPOSITORY@sha256:<64 hexadecimal digits>."
  }
}

variable "image_repositories" {
  description = "The ECR repositories that bootstrap/ made and that tasks pull from."
  type        = list(string)
  default     = ["lakehouse", "lakehouse-trino"]
}

variable "sizes" {
  description = "What each task takes: cpu in 1/1024 vCPU, memory in MiB; `run` is for runs that say nothing else."
  type        = map(object({ cpu = number, memory = number }))

  validation {
    condition     = toset(keys(var.sizes)) == toset(["webserver", "viewer", "daemon", "code", "run"])
    error_message = "Sizes are given for webserver, viewer, daemon, code and run."
  }
}

variable "runs_at_once" {
  description = "How many runs there are at a time, each a task; more wait in the queue."
  type        = number

  validation {
    condition     = var.runs_at_once >= 1
    error_message = "Without a place for one run none ever starts."
  }
}

variable "viewers" {
  description = "How many read-only webservers there are; 0 for none."
  type        = number
}

variable "container_insights" {
  description = "What ECS measures: `enabled` by service, `enhanced` by task as well."
  type        = string

  validation {
    condition     = contains(["enabled", "enhanced"], var.container_insights)
    error_message = "The alarms on services need `enabled` or `enhanced`."
  }
}

variable "database" {
  description = "Dagster's Postgres."
  type = object({
    class       = string
    storage_gb  = number
    storage_max = number
    multi_az    = bool
    backup_days = number
  })

  validation {
    condition     = var.database.backup_days >= 1
    error_message = "Without a backup the history of all runs is lost with the instance."
  }
}

variable "allow_deletion" {
  description = "Whether `make destroy` may delete the lake and the database with what is in them."
  type        = bool
}

variable "ui" {
  description = "Names under which people reach the UI, the certificate for both, and from where."
  type = object({
    name            = string
    viewer_name     = string
    certificate_arn = string
    allowed_cidrs   = list(string)
  })

  validation {
    condition     = !contains(var.ui.allowed_cidrs, "0.0.0.0/0")
    error_message = "The UI drives everything the lake's user can: name the networks of your people."
  }
}

variable "settings" {
  description = "Settings of lakehouse, as .env.example has them, without LAKEHOUSE_ before their names."
  type        = map(string)

  validation {
    condition     = length(setintersection(keys(var.settings), ["UI_TOKEN", "ALERT_URLS"])) == 0
    error_message = "UI_TOKEN and ALERT_URLS are secrets: they belong in the secret that bootstrap/ made."
  }
}

variable "scanned_bytes_at_most" {
  description = "What one Athena query may scan before it is ended."
  type        = number

  validation {
    condition     = var.scanned_bytes_at_most >= 10485760
    error_message = "Athena takes no limit below 10 MB."
  }
}

variable "trino" {
  description = "Trino over the lake, or not."
  type = object({
    enabled     = bool
    image       = string
    coordinator = object({ cpu = number, memory = number })
    worker      = object({ cpu = number, memory = number })
    workers     = number
  })

  validation {
    condition     = !var.trino.enabled || can(regex("@sha256:[0-9a-f]{64}$", var.trino.image))
    error_message = "Trino's image is named by digest, as lakehouse's."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
}

variable "alarm_emails" {
  description = "Who is told of alarms."
  type        = list(string)
}

variable "monthly_budget_usd" {
  description = "What it is expected to cost a month: who gets alarms is told when the forecast is beyond it."
  type        = number
}

variable "github_repository" {
  description = "OWNER/NAME of the repository whose workflows may plan and apply; empty for none."
  type        = string
}
