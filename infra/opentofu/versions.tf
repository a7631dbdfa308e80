terraform {
  required_version = ">= 1.10" # the first whose S3 backend locks with an object of its own

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.62.0"
    }
  }

  # Bucket, key and region come from envs/<env>.backend.hcl
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}
