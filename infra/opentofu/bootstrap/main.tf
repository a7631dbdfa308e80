# What has to be there before the first deployment of an environment, and stays when it is destroyed: where the state
# is kept, where images are pushed to, and the secret whose values no state holds. Applied once, by a person.

terraform {
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.62.0"
    }
  }
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = {
      Project     = "lakehouse"
      Environment = var.environment
      ManagedBy   = "opentofu"
    }
  }
}

variable "environment" {
  description = "Which environment this is."
  type        = string

  validation {
    condition     = contains(["dev", "staging", "prod"], var.environment)
    error_message = "The environment is dev, staging or prod."
  }
}

variable "account_id" {
  description = "Its account."
  type        = string
}

variable "region" {
  description = "Its region."
  type        = string
}

variable "image_repositories" {
  description = "Repositories of images."
  type        = list(string)
  default     = ["lakehouse", "lakehouse-trino"]
}

variable "shared" {
  description = "Whether the account has no repositories and no OIDC provider yet: all its environments share them."
  type        = bool
  default     = true
}

locals {
  name         = "lakehouse-${var.environment}"
  repositories = toset(var.shared ? var.image_repositories : [])
}

resource "aws_kms_key" "state" {
  description             = "${local.name}: state, images and the UI's secret"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Administer"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${var.account_id}:root" }
      Action    = "kms:*" # roles of the account get what their own policies say, and no more
      Resource  = "*"     # of a key's own policy: this key
    }]
  })
}

resource "aws_s3_bucket" "state" {
  #checkov:skip=CKV2_AWS_62:nothing waits for an event
  #checkov:skip=CKV_AWS_144:without its region there is nothing left that a state would tell of
  #checkov:skip=CKV_AWS_18:its versions tell what changed, and CloudTrail who did it

  bucket = "${local.name}-state-${var.account_id}"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket                  = aws_s3_bucket.state.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.state.arn
    }
  }
}

resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.state]
}

resource "aws_s3_bucket_lifecycle_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    id     = "expire-replaced"
    status = "Enabled"
    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 365
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  depends_on = [aws_s3_bucket_versioning.state]
}

# A tag cannot be moved, and what is deployed is named by digest anyway.
resource "aws_ecr_repository" "image" {
  for_each             = local.repositories
  name                 = each.key
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.state.arn
  }
}

resource "aws_ecr_lifecycle_policy" "image" {
  for_each   = aws_ecr_repository.image
  repository = each.value.name

  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "The last thirty images"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 30 }
      action       = { type = "expire" }
    }]
  })
}

# ui_token, viewer_token and alert_urls as one JSON object; `python infra/deploy.py secrets` fills it.
resource "aws_secretsmanager_secret" "ui" {
  #checkov:skip=CKV2_AWS_57:people hold these tokens, so a person changes them: docs/security.md

  name                    = "${local.name}/ui"
  description             = "Tokens of the UI and of its viewers, and whom alerts go to"
  kms_key_id              = aws_kms_key.state.arn
  recovery_window_in_days = 7
}

resource "aws_iam_openid_connect_provider" "github" {
  count          = var.shared ? 1 : 0
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

output "state_bucket" {
  description = "Goes into envs/<env>.backend.hcl."
  value       = aws_s3_bucket.state.bucket
}

output "repositories" {
  description = "Where images are pushed to."
  value       = { for name, repository in aws_ecr_repository.image : name => repository.repository_url }
}
